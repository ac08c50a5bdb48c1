{{/* The labels that select the pods; those of manifests/base, so that either can follow the other. */}}
{{- define "kube-ipvs.selector" -}}
app.kubernetes.io/name: kube-ipvs
{{- end }}

{{/* The labels of every object. */}}
{{- define "kube-ipvs.labels" -}}
{{ include "kube-ipvs.selector" . }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* A label that would be there twice is refused, unless both say the same. */}}
{{- define "kube-ipvs.podLabels" -}}
{{- $labels := include "kube-ipvs.selector" . | fromYaml -}}
{{- if .Values.kubeProxyLabel -}}
{{- $label := "kube-proxy" -}}
{{- if ne (index (.Values.podLabels | default dict) "k8s-app" | default $label) $label -}}
{{- fail "podLabels: kubeProxyLabel sets k8s-app to kube-proxy: remove one of the two" -}}
{{- end -}}
{{- $labels = merge $labels (dict "k8s-app" $label) -}}
{{- end -}}
{{ merge $labels (.Values.podLabels | default dict) | toYaml }}
{{- end }}

{{- define "kube-ipvs.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* The directory of the configuration. */}}
{{- define "kube-ipvs.directory" -}}
{{ if .Values.existingConfigMap.name }}{{ .Values.existingConfigMap.mountPath }}{{ else }}/etc/kube-ipvs{{ end }}
{{- end }}

{{- define "kube-ipvs.config" -}}
--config={{ include "kube-ipvs.directory" . }}/{{ if .Values.existingConfigMap.name }}{{ .Values.existingConfigMap.key }}{{ else }}config.conf{{ end }}
{{- end }}

{{/*
The host and port of an address as the agent reads it: ADDRESS:PORT, :PORT or an address alone, in any spelling.
Port 0 listens nowhere. An unspecified address is reached at the loopback address of its family; `loopback` tells
an address that others do not reach.
*/}}
{{- define "kube-ipvs.address" -}}
{{- $text := .text | trim -}}
{{- $host := $text -}}
{{- $port := .port -}}
{{- if or (regexMatch "^\\[.*\\]:[0-9]+$" $text) (regexMatch "^[^:]*:[0-9]+$" $text) -}}
{{- $host = regexReplaceAll ":[0-9]+$" $text "" -}}
{{- $port = regexFind "[0-9]+$" $text -}}
{{- end -}}
{{- $host = regexReplaceAll "^[0:]*:[fF]{4}:([0-9.]+)$" (trimAll "[]" $host) "${1}" -}}
{{- $loopback := regexMatch "^0*127[.]|^[0:]*:[0.:]*1$" $host -}}
{{- if regexMatch "^[0.]*$" $host }}{{ $host = "127.0.0.1" }}{{ end -}}
{{- if regexMatch "^[0:]*:[0.:]*$" $host }}{{ $host = "::1" }}{{ end -}}
host: {{ $host | quote }}
port: {{ $port }}
loopback: {{ $loopback }}
{{- end }}

{{/* Where the probes ask. bindAddress binds nothing; its family decides the default. */}}
{{- define "kube-ipvs.health" -}}
{{- $text := .Values.existingConfigMap.healthzBindAddress -}}
{{- $any := "0.0.0.0" -}}
{{- if not .Values.existingConfigMap.name -}}
{{- $text = .Values.config.kubeProxy.healthzBindAddress | default "" -}}
{{- if contains ":" (.Values.config.kubeProxy.bindAddress | default "") }}{{ $any = "::" }}{{ end -}}
{{- end -}}
{{ include "kube-ipvs.address" (dict "text" ($text | default $any) "port" 10256) }}
{{- end }}

{{- define "kube-ipvs.scraped" -}}
{{- with .Values.metrics }}{{ if or .podMonitor.enabled .serviceMonitor.enabled $.Values.kubeProxyLabel }}true{{ end }}{{ end -}}
{{- end }}

{{/* The value of --metrics-bind-address; empty if the configuration's applies. */}}
{{- define "kube-ipvs.metrics" -}}
{{- $configured := "" -}}
{{- if not .Values.existingConfigMap.name }}{{ $configured = .Values.config.kubeProxy.metricsBindAddress | default "" }}{{ end -}}
{{- if .Values.metrics.bindAddress -}}
{{ .Values.metrics.bindAddress }}
{{- else if include "kube-ipvs.scraped" . -}}
{{ $configured | default "0.0.0.0:10249" }}
{{- end -}}
{{- end }}

{{- define "kube-ipvs.metricsPort" -}}
{{ (include "kube-ipvs.address" (dict "text" (include "kube-ipvs.metrics" .) "port" 10249) | fromYaml).port }}
{{- end }}

{{/* A DaemonSet that declares ports of the node cannot have maxSurge. */}}
{{- define "kube-ipvs.surges" -}}
{{- $surge := (.Values.updateStrategy.rollingUpdate | default dict).maxSurge | default 0 | toString -}}
{{ if not (has $surge (list "0" "0%")) }}true{{ end }}
{{- end }}

{{- define "kube-ipvs.environment" -}}
- name: NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- with .Values.apiServer }}
{{- if .host }}
- name: KUBERNETES_SERVICE_HOST
  value: {{ .host | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ .port | quote }}
{{- end }}
{{- end }}
{{- $names := list "NODE_NAME" }}
{{- if .Values.apiServer.host }}
{{- $names = append (append $names "KUBERNETES_SERVICE_HOST") "KUBERNETES_SERVICE_PORT" }}
{{- end }}
{{- range .Values.env }}
{{- if has .name $names }}
{{- fail (printf "env: %s would be there twice: the chart sets NODE_NAME and, by apiServer, KUBERNETES_SERVICE_HOST and _PORT" .name) }}
{{- end }}
{{- $names = append $names .name }}
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "kube-ipvs.interval" -}}
{{- with .interval }}
interval: {{ . }}
{{- end }}
path: /metrics
relabelings:
  - sourceLabels: [__meta_kubernetes_pod_node_name]
    targetLabel: node
{{- end }}
