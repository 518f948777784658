{{- define "trunkside.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "trunkside.labels" -}}
app.kubernetes.io/name: trunkside-control
app.kubernetes.io/part-of: trunkside
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "trunkside.selector" -}}
app.kubernetes.io/name: trunkside-control
{{- end -}}
