//go:build tools

// Package tools: the k8s.io modules are of the release in ../v1.37, so that what both need is compiled once.
package tools

import _ "helm.sh/helm/v4/cmd/helm"
