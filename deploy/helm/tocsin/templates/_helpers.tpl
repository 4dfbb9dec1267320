{{- define "tocsin.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "tocsin.fullname" -}}
{{- $name := include "tocsin.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* Never changed: a Deployment's selector cannot be. */ -}}
{{- define "tocsin.selector" -}}
app.kubernetes.io/name: {{ include "tocsin.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tocsin.labels" -}}
{{ include "tocsin.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: tocsin
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with include "tocsin.theirs" .Values.commonLabels }}
{{ . }}
{{- end }}
{{- end -}}

{{- /* Labels of the values, less those by which the chart's own objects find each other. */ -}}
{{- define "tocsin.theirs" -}}
{{- with omit (. | default dict) "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/version" "app.kubernetes.io/part-of" "app.kubernetes.io/managed-by" "app.kubernetes.io/component" "helm.sh/chart" -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{- define "tocsin.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "tocsin.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "tocsin.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "tocsin.publicUrl" -}}
{{- if .Values.console.publicUrl -}}
{{- .Values.console.publicUrl -}}
{{- else if .Values.ingress.enabled -}}
https://{{ .Values.ingress.host }}
{{- else -}}
http://localhost:{{ .Values.console.port }}
{{- end -}}
{{- end -}}

{{- define "tocsin.listen" -}}
{{- if contains ":" .address -}}[{{ .address }}]{{- else -}}{{ .address }}{{- end -}}:{{ .port }}
{{- end -}}

{{- /* Whether any app proves itself with a token of this cluster. */ -}}
{{- define "tocsin.federated" -}}
{{- range .Values.apps -}}
{{- if and .credential .credential.workloadIdentity -}}yes{{- end -}}
{{- end -}}
{{- end -}}

{{- /* What every pod of ours has: the restricted Pod Security Standard, no token, no variables of Services. */ -}}
{{- define "tocsin.pod" -}}
serviceAccountName: {{ include "tocsin.serviceAccount" . }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  seccompProfile:
    type: RuntimeDefault
  {{- with .Values.securityContext }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "tocsin.container" -}}
image: {{ include "tocsin.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
command: [/usr/bin/tocsin]
securityContext:
  allowPrivilegeEscalation: false
  capabilities:
    drop: [ALL]
  privileged: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- /* Mounts without which no command runs. */ -}}
{{- define "tocsin.mounts" -}}
- name: config
  mountPath: /etc/tocsin/config
  readOnly: true
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "tocsin.volumes" -}}
- name: config
  configMap:
    name: {{ include "tocsin.fullname" . }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* A Secret as a volume, readable by the group of the pod alone: that is what tocsin accepts. */ -}}
{{- define "tocsin.secretVolume" -}}
- name: {{ .name }}
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
    items:
      {{- range $path, $key := .items }}
      - key: {{ $key }}
        path: {{ $path }}
      {{- end }}
{{- end -}}

{{- /* The secret with which the database is migrated. */ -}}
{{- define "tocsin.ownerVolume" -}}
{{- if .Values.migrations.existingSecret -}}
{{- include "tocsin.secretVolume" (dict "name" "database-owner" "secret" .Values.migrations.existingSecret "items" (dict "url" .Values.migrations.key)) -}}
{{- end -}}
{{- end -}}

{{- /* What a schema cannot say. */ -}}
{{- define "tocsin.validate" -}}
{{- $least := add .Values.preStopSleepSeconds 12 -}}
{{- if lt (int64 .Values.terminationGracePeriodSeconds) $least -}}
{{- fail (printf "terminationGracePeriodSeconds is under %d: the daemon needs up to ten seconds after preStopSleepSeconds" $least) -}}
{{- end -}}
{{- if eq (int .Values.ops.port) (int .Values.console.port) -}}
{{- fail "ops.port and console.port are the same; the ops endpoint must never be where customers come" -}}
{{- end -}}
{{- if .Values.ingress.enabled -}}
{{- if not .Values.ingress.host -}}
{{- fail "ingress.host is empty; name the host that customers' browsers reach" -}}
{{- end -}}
{{- if not (hasPrefix "https://" (include "tocsin.publicUrl" .)) -}}
{{- fail "console.publicUrl does not begin with https://, and customers come over the Ingress" -}}
{{- end -}}
{{- end -}}
{{- $secrets := dict "database" .Values.database.existingSecret "notify" .Values.notify.existingSecret -}}
{{- if .Values.migrations.enabled -}}
{{- $_ := set $secrets "migrations" .Values.migrations.existingSecret -}}
{{- end -}}
{{- $volumes := list "config" "database" "database-owner" "key-ring" "notify" "azure-identity-token" -}}
{{- range $name, $app := .Values.apps -}}
{{- $volumes = append $volumes (printf "app-%s" $name) -}}
{{- range $kind := list "certificate" "clientSecret" -}}
{{- with get ($app.credential | default dict) $kind -}}
{{- $_ := set $secrets (printf "apps.%s" $name) .existingSecret -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if get (.Values.config.vault | default dict) "require_separation" -}}
{{- range $name, $secret := $secrets -}}
{{- if eq $secret $.Values.keyRing.existingSecret -}}
{{- fail (printf "keyRing and %s are in one Secret, %s, where one leak takes both; keep them in two, or set config.vault.require_separation to false" $name $secret) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range .Values.extraVolumes -}}
{{- if has .name $volumes -}}
{{- fail (printf "extraVolumes has a volume %s, and the chart has one of that name; take another name" .name) -}}
{{- end -}}
{{- end -}}
{{- /* The daemon reads these names in any case, and they win over tocsin.toml. */ -}}
{{- range .Values.extraEnv -}}
{{- if regexMatch "^TOCSIN_(CONFIG_FILE$|DATABASE__|OPS__|CONSOLE__|APPS__|VAULT__KEY_FILE$|NOTIFY__(URL|SECRET)_FILE$)" (upper .name) -}}
{{- fail (printf "extraEnv sets %s, which the chart decides itself; use database, keyRing, apps, notify, ops, console, ingress and listenAddress of the values" .name) -}}
{{- end -}}
{{- end -}}
{{- with .Values.monitoring.serviceMonitor -}}
{{- if and .enabled .interval .scrapeTimeout -}}
{{- if gt (int64 (include "tocsin.milliseconds" .scrapeTimeout)) (int64 (include "tocsin.milliseconds" .interval)) -}}
{{- fail (printf "monitoring.serviceMonitor.scrapeTimeout, %s, is longer than its interval, %s, which Prometheus refuses" .scrapeTimeout .interval) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* A time such as 500ms, 30s, 1m or 2h. */ -}}
{{- define "tocsin.milliseconds" -}}
{{- mul (regexFind "^[0-9]+" . | atoi) (get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000) (regexFind "[a-z]+$" .)) -}}
{{- end -}}
