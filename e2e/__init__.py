"""The shipped deployment on a real node: images, containers, a kubelet, apart from the machine."""
