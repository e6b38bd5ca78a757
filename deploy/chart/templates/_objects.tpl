{{/*
The chart holds no manifest of its own. files/ links to the kustomize tree beside it, whose objects are read here,
changed by the values, and written out: both ways install the same, and a change to a manifest is made once.
*/}}

{{/* The text of a file, with the namespaces of this release. Takes root, path. */}}
{{- define "model-cache.text" -}}
{{- $text := .root.Files.Get (printf "files/%s" .path) -}}
{{- if not $text }}
{{- fail (printf "the chart has no files/%s: it was packed from a tree without symbolic links; take the packed chart of a release" .path) }}
{{- end }}
{{- $text | replace "model-cache-system" .root.Release.Namespace | replace "model-cache-loaders" .root.Values.loader.namespace -}}
{{- end }}

{{/* Every object of a file. Takes root, path; labels for them alone; a match condition more for its policy. */}}
{{- define "model-cache.objects" -}}
{{- range regexSplit "(?m)^---$" (include "model-cache.text" .) -1 }}
{{- $object := fromYaml . -}}
{{- with $object.Error }}{{ fail (printf "files/%s: %s" $.path .) }}{{ end -}}
{{- include "model-cache.settle" (dict "root" $.root "object" $object "labels" $.labels) -}}
{{- if and $.condition (eq $object.kind "MutatingAdmissionPolicy") -}}
{{- $_ := set $object.spec "matchConditions" (append $object.spec.matchConditions $.condition) -}}
{{- end -}}
---
{{ toYaml $object }}
{{ end -}}
{{- end }}

{{/* Change an object by the values. Takes root, object; labels for it alone. Writes nothing. */}}
{{- define "model-cache.settle" -}}
{{- $values := .root.Values -}}
{{- $metadata := .object.metadata -}}
{{- $labels := merge (dict) ($metadata.labels | default dict) (.labels | default dict) (include "model-cache.labels" .root | fromYaml) $values.labels -}}
{{- $_ := set $metadata "labels" $labels -}}
{{- with merge (dict) ($metadata.annotations | default dict) $values.annotations -}}
{{- $_ := set $metadata "annotations" . -}}
{{- end -}}
{{- if has .object.kind (list "Deployment" "DaemonSet") -}}
{{- include "model-cache.workload" . -}}
{{- else if and (eq .object.kind "ServiceAccount") (eq $metadata.name "model-cache-loader") $values.loader.serviceAccountAnnotations -}}
{{- $_ := set $metadata "annotations" (merge (dict) $values.loader.serviceAccountAnnotations $values.annotations) -}}
{{- end -}}
{{- end }}

{{/* What Helm's conventions put on every object; never in a selector, which could not change with the version. */}}
{{- define "model-cache.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{/* A ConfigMap. Takes root, name, namespace, data; labels for it alone. */}}
{{- define "model-cache.config-map" -}}
{{- $metadata := dict "name" .name "namespace" .namespace -}}
{{- $object := dict "apiVersion" "v1" "kind" "ConfigMap" "metadata" $metadata "data" .data -}}
{{- include "model-cache.settle" (dict "root" .root "object" $object "labels" .labels) -}}
---
{{ toYaml $object }}
{{ end }}

{{/* A document of a kind: the value where one is given, else that of a file. Takes root, value, named, kind, path. */}}
{{- define "model-cache.document" -}}
{{- if .value -}}
{{- $read := fromYaml .value -}}
{{- $kind := $read.kind | default "" -}}
{{- if ne $kind .kind }}
{{- fail (printf "%s: has to be a whole document of the kind %s, such as files/%s; %s" .named .kind .path ($read.Error | default (printf "its kind is %q" $kind))) }}
{{- end -}}
{{- .value -}}
{{- else -}}
{{- include "model-cache.text" . -}}
{{- end -}}
{{- end }}
