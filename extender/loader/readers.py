"""Who on this node reads a model, for the moment in which another revision takes its place."""

from __future__ import annotations

from collections.abc import Callable

from extender.kube.objects import Pod
from extender.loader.catalog import Catalog
from extender.loader.placing import InUse
from extender.loader.usage import models_in_use


class Readers:
    """Asks the API; see ``placing.Uses``.

    ``pods`` lists the pods of the node, or raises CacheError. ``catalog`` is the one in force,
    ``host_directory`` what the cache's directory is called on the node.
    """

    def __init__(
        self,
        pods: Callable[[], list[Pod]],
        *,
        catalog: Callable[[], Catalog | None],
        host_directory: Callable[[], str],
    ) -> None:
        self._pods = pods
        self._catalog = catalog
        self._host_directory = host_directory

    def __call__(self, path: str) -> InUse:
        """Return who may read the model. Raises CacheError where that cannot be known."""
        catalog, root = self._catalog(), self._host_directory()
        return InUse(
            pods={
                pod.metadata.uid: f"{pod.metadata.namespace}/{pod.metadata.name}"
                for pod in self._pods()
                if models_in_use([pod], root, [path])
            },
            replaced=any(
                model.replace_in_use
                for model in (catalog.models if catalog else ())
                if model.directory == path
            ),
        )
