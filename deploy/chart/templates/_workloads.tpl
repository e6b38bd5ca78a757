{{/* Change a Deployment or DaemonSet by the values. Takes root, object; writes nothing. */}}
{{- define "model-cache.workload" -}}
{{- include "model-cache.same-selector" . -}}
{{- $values := .root.Values -}}
{{- $name := .object.metadata.name -}}
{{- $metadata := .object.spec.template.metadata -}}
{{- $spec := .object.spec.template.spec -}}
{{- $settings := $values.pods -}}
{{- $annotations := dict -}}
{{- if eq $name "model-cache-loader" -}}
{{- /* Its catalog is followed as a mounted file: a change needs no new pods. */ -}}
{{- $settings = $values.loader -}}
{{- include "model-cache.loader-pod" (dict "loader" $settings "spec" $spec) -}}
{{- else -}}
{{- $annotations = dict "checksum/configuration" (include "model-cache.configuration" .root | sha256sum) -}}
{{- end -}}
{{- if eq $name "model-cache-scheduler" -}}
{{- $_ := set .object.spec "replicas" $values.scheduler.replicas -}}
{{- if $values.page.enabled -}}
{{- include "model-cache.page" $spec -}}
{{- end -}}
{{- end -}}
{{- $_ := set $metadata "labels" (merge (dict) $metadata.labels $settings.podLabels) -}}
{{- with merge $annotations $settings.podAnnotations -}}
{{- $_ := set $metadata "annotations" . -}}
{{- end -}}
{{- include "model-cache.placement" (dict "spec" $spec "settings" $settings) -}}
{{- with $values.imagePullSecrets -}}
{{- $_ := set $spec "imagePullSecrets" . -}}
{{- end -}}
{{- $parts := dict "extender" $values.extender "kube-scheduler" $values.scheduler "loader" $values.loader -}}
{{- range $container := concat ($spec.initContainers | default list) $spec.containers -}}
{{- $image := ternary $values.scheduler.image $values.image (eq .name "kube-scheduler") -}}
{{- $_ := set . "image" (include "model-cache.image" (dict "image" $image "default" $.root.Chart.AppVersion)) -}}
{{- with $image.pullPolicy -}}
{{- $_ := set $container "imagePullPolicy" . -}}
{{- end -}}
{{- $_ := set . "resources" (mergeOverwrite .resources (dig .name "resources" (dict) $parts)) -}}
{{- end -}}
{{- end }}

{{/* The status listener speaks TLS, as the patch of overlays/with-page has it. Takes the pod's spec; writes nothing. */}}
{{- define "model-cache.page" -}}
{{- $_ := set .securityContext "fsGroup" 65532 -}}
{{- $secret := dict "secretName" "model-cache-page-tls" "defaultMode" 288 -}}
{{- $_ := set . "volumes" (prepend .volumes (dict "name" "page-tls" "secret" $secret)) -}}
{{- range .initContainers -}}
{{- range .ports -}}
{{- $_ := set . "name" "status-tls" -}}
{{- end -}}
{{- range $probe := list .startupProbe .readinessProbe .livenessProbe -}}
{{- $_ := set $probe.httpGet "scheme" "HTTPS" -}}
{{- end -}}
{{- $mount := dict "name" "page-tls" "mountPath" "/etc/model-cache-page-tls" "readOnly" true -}}
{{- $_ := set . "volumeMounts" (prepend .volumeMounts $mount) -}}
{{- end -}}
{{- end }}

{{/* Where the pods may go. Takes spec, settings; writes nothing. */}}
{{- define "model-cache.placement" -}}
{{- $_ := set .spec "nodeSelector" (mergeOverwrite .spec.nodeSelector .settings.nodeSelector) -}}
{{- range $key := list "tolerations" "affinity" "priorityClassName" -}}
{{- with get $.settings $key -}}
{{- $_ := set $.spec $key . -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The name of an image, by its digest, else by its tag. Takes image, default (the tag where none is given). */}}
{{- define "model-cache.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .default }}
{{- end -}}
{{- end }}

{{/* What a loader alone has. Takes loader (the values), spec; writes nothing. */}}
{{- define "model-cache.loader-pod" -}}
{{- $loader := .loader -}}
{{- if not $loader.changeOwner -}}
{{- /* There is no other. */ -}}
{{- $_ := unset .spec "initContainers" -}}
{{- end -}}
{{- range .spec.volumes -}}
{{- with .hostPath -}}
{{- $_ := set . "path" $loader.directory -}}
{{- end -}}
{{- end -}}
{{- range .spec.containers -}}
{{- range .env -}}
{{- with dig "valueFrom" "secretKeyRef" (dict) . -}}
{{- $_ := set . "name" $loader.tokenSecret -}}
{{- end -}}
{{- end -}}
{{- $_ := set . "env" (concat .env $loader.env) -}}
{{- end -}}
{{- end }}

{{/* A selector cannot be changed, and the modes have different ones: say so before the apiserver refuses half a release. */}}
{{- define "model-cache.same-selector" -}}
{{- $metadata := .object.metadata -}}
{{- with lookup "apps/v1" .object.kind $metadata.namespace $metadata.name -}}
{{- if ne (toJson .spec.selector) (toJson $.object.spec.selector) -}}
{{- fail (printf "%s %s is there with another selector, which cannot be changed: no upgrade leads from one mode to the other. First: helm uninstall %s -n %s" $.object.kind $metadata.name $.root.Release.Name $.root.Release.Namespace) -}}
{{- end -}}
{{- end -}}
{{- end }}
