{{- define "twofold.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 36 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 36 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "twofold.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- .Values.image.repository }}:{{ $tag }}{{ with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- define "twofold.selector" -}}
app.kubernetes.io/name: twofold
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "twofold.labels" -}}
{{ include "twofold.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* What the zone says about its HSM, over what the release says. Call with (dict "root" $ "zone" $zone). */}}
{{- define "twofold.hsm" -}}
{{- mergeOverwrite (deepCopy .root.Values.hsm) (deepCopy (.zone.hsm | default dict)) | toYaml }}
{{- end }}

{{/* The names of the other zones on the same database, in JSON: this release's, then other releases'. */}}
{{- define "twofold.others" -}}
{{- $own := .zone.name -}}
{{- $others := list -}}
{{- range .root.Values.zones }}{{ if ne .name $own }}{{ $others = append $others .name }}{{ end }}{{ end -}}
{{- with concat $others .root.Values.otherZones }}{{ toJson . }}{{ else }}[]{{ end }}
{{- end }}

{{- define "twofold.replicas" -}}{{ .replicas | default 1 | int }}{{- end }}

{{/* Each HSM thread holds two sessions: one logged in for as long as it lives, one that operations use. */}}
{{- define "twofold.sessions" -}}
{{- $hsm := include "twofold.hsm" . | fromYaml -}}
{{- mul 2 (include "twofold.replicas" .zone) .root.Values.processes $hsm.threads }}
{{- end }}

{{/* Connections of all pods when each has its pools full: beside its pool, a process has one that it is told of changes by. */}}
{{- define "twofold.connections" -}}
{{- $pods := 0 -}}
{{- range .Values.zones }}{{ $pods = add $pods (include "twofold.replicas" .) }}{{ end -}}
{{- mul $pods .Values.processes (add 1 .Values.database.poolSize) }}
{{- end }}

{{- define "twofold.database.cluster" -}}{{ include "twofold.name" . }}-database{{- end }}
{{- define "twofold.database.host" -}}
{{- if .Values.cloudnativepg.enabled }}{{ include "twofold.database.cluster" . }}-rw{{ else }}{{ .Values.database.host }}{{ end }}
{{- end }}
{{- define "twofold.database.caSecret" -}}
{{- if and .Values.cloudnativepg.enabled (not .Values.database.caSecret.name) -}}
name: {{ include "twofold.database.cluster" . }}-ca
key: ca.crt
{{- else }}{{ toYaml .Values.database.caSecret }}{{ end }}
{{- end }}

{{/* The same at the standbys; empty where there is none. */}}
{{- define "twofold.database.readOnlyHost" -}}
{{- if not .Values.cloudnativepg.enabled }}{{ (.Values.database.readOnly | default dict).host | default "" }}
{{- else if gt (int .Values.cloudnativepg.instances) 1 }}{{ include "twofold.database.cluster" . }}-ro{{ end }}
{{- end }}

{{/* postgresql://USER@HOST:PORT/NAME; the password comes from its file. (dict "root" $ "user" "…") */}}
{{- define "twofold.database.url" -}}
postgresql://{{ .user }}@{{ include "twofold.database.host" .root }}:{{ .root.Values.database.port }}/{{ .root.Values.database.name }}
{{- end }}

{{/* Ports of the database, of whatever is asked there, each as an entry of a NetworkPolicy. */}}
{{- define "twofold.database.ports" -}}
{{- $ports := list (.Values.database.port | int) -}}
{{- with .Values.database.readOnly }}{{ if .host }}{{ $ports = append $ports (.port | default 5432 | int) }}{{ end }}{{ end -}}
{{- range .Values.database.managers }}
{{- $url := urlParse . -}}
{{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | int -}}
{{- $ports = append $ports (ternary $port (ternary 443 80 (eq $url.scheme "https")) (gt $port 0)) -}}
{{- end }}
{{- range $ports | uniq }}
- { protocol: TCP, port: {{ . }} }
{{- end }}
{{- end }}

{{- define "twofold.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
# Always would open the data folder to its group again at each start.
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "twofold.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: { drop: [ALL] }
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "twofold.databaseTls" -}}
- { name: TWOFOLD_DATABASE_TLS, value: verify-full }
- { name: TWOFOLD_DATABASE_CA_FILE, value: /etc/twofold/database-ca/ca.pem }
{{- end }}

{{/* What names the token, for the service and for the ceremony. */}}
{{- define "twofold.token" -}}
{{- $hsm := include "twofold.hsm" . | fromYaml -}}
{{- if $hsm.softhsm }}
- { name: SOFTHSM2_CONF, value: /etc/twofold/softhsm2.conf }
{{- end }}
- { name: TWOFOLD_PKCS11_MODULE, value: {{ $hsm.module | default (ternary "/usr/lib/softhsm/libsofthsm2.so" "" $hsm.softhsm) | quote }} }
{{- with $hsm.moduleParameters }}
- { name: TWOFOLD_HSM_MODULE_PARAMETERS, value: {{ . | quote }} }
{{- end }}
{{- if hasKey $hsm "slot" }}
- { name: TWOFOLD_HSM_SLOT, value: {{ $hsm.slot | int64 | quote }} }
{{- else }}
- { name: TWOFOLD_HSM_TOKEN_LABEL, value: {{ $hsm.tokenLabel | quote }} }
{{- end }}
- { name: TWOFOLD_HSM_PIN_FILE, value: /run/twofold/user.pin }
{{- range $name, $value := $hsm.environment }}
- { name: {{ $name }}, value: {{ $value | quote }} }
{{- end }}
{{- end }}

{{/* Volumes of `files`: (dict "files" list "prefix" "file"). Modes are 0440 and 0444. */}}
{{- define "twofold.fileVolumes" -}}
{{- $prefix := .prefix }}
{{- range $index, $file := .files }}
- name: {{ $prefix }}-{{ $index }}
  {{- if $file.secretName }}
  secret: { secretName: {{ $file.secretName | quote }}, defaultMode: 288 }
  {{- else }}
  configMap: { name: {{ $file.configMapName | quote }}, defaultMode: 292 }
  {{- end }}
{{- end }}
{{- end }}
{{- define "twofold.fileMounts" -}}
{{- $prefix := .prefix }}
{{- range $index, $file := .files }}
- { name: {{ $prefix }}-{{ $index }}, mountPath: {{ $file.mountPath | quote }}, readOnly: true }
{{- end }}
{{- end }}

{{/* One file of a Secret as a volume: (dict "name" volume "secret" {name,key} "file" name) */}}
{{- define "twofold.secretVolume" -}}
- name: {{ .name }}
  secret:
    secretName: {{ .secret.name | quote }}
    defaultMode: 288
    items: [{ key: {{ .secret.key | quote }}, path: {{ .file }} }]
{{- end }}
