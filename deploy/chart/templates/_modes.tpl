{{/* The files of each mode, as its overlay names them: workloads and rights beside common and write; configuration. */}}
{{- define "model-cache.mode" -}}
second-scheduler:
  objects: [base/scheduler-rights.yaml, base/deployment.yaml, base/pod-disruption-budget.yaml]
  extender: config/extender-config.yaml
  scheduler: config/scheduler-config.yaml
two-deployments:
  objects:
    - write-alone/status-policy.yaml
    - overlays/two-deployments/scheduler-rights.yaml
    - overlays/two-deployments/network-policy.yaml
    - overlays/two-deployments/extender.yaml
    - overlays/two-deployments/scheduler.yaml
  extender: overlays/two-deployments/extender-config.yaml
  scheduler: overlays/two-deployments/scheduler-config.yaml
existing-scheduler:
  objects: [write-alone/status-policy.yaml, overlays/existing-scheduler/daemonset.yaml]
  extender: overlays/existing-scheduler/extender-config.yaml
  # The scheduler's configuration lies on the hosts, not in the cluster.
{{- end }}

{{/* What extender and kube-scheduler read, as JSON: the file of each ConfigMap. Its digest rolls the pods. */}}
{{- define "model-cache.configuration" -}}
{{- $mode := get (include "model-cache.mode" . | fromYaml) .Values.mode -}}
{{- $path := ternary "overlays/with-page/extender-config.yaml" $mode.extender .Values.page.enabled -}}
{{- $extender := dict "root" . "value" .Values.extender.configuration "named" "extender.configuration" "kind" "ExtenderConfiguration" "path" $path -}}
{{- $files := dict "model-cache-extender-config" (dict "config.yaml" (include "model-cache.document" $extender)) -}}
{{- with $mode.scheduler -}}
{{- $scheduler := dict "root" $ "value" $.Values.scheduler.configuration "named" "scheduler.configuration" "kind" "KubeSchedulerConfiguration" "path" . -}}
{{- $_ := set $files "model-cache-scheduler-config" (dict "scheduler-config.yaml" (include "model-cache.document" $scheduler)) -}}
{{- end -}}
{{- toJson $files -}}
{{- end }}
