{{- /* One value: a string of JSON is a basic string of TOML, and numbers of YAML arrive as floats. */ -}}
{{- define "tocsin.toml.value" -}}
{{- if kindIs "string" . -}}{{ toRawJson . }}{{- else if kindIs "bool" . -}}{{ . }}{{- else -}}{{ int64 . }}{{- end -}}
{{- end -}}

{{- /* A section with its keys. */ -}}
{{- define "tocsin.toml.section" -}}
[{{ .name }}]
{{- range $key, $value := .keys }}
{{ $key }} = {{ include "tocsin.toml.value" $value }}
{{- end }}
{{ end -}}

{{- /* tocsin.toml */ -}}
{{- define "tocsin.toml" -}}
{{- $config := .Values.config -}}
{{- $ops := include "tocsin.listen" (dict "address" .Values.listenAddress "port" (int .Values.ops.port)) -}}
{{- $console := include "tocsin.listen" (dict "address" .Values.listenAddress "port" (int .Values.console.port)) -}}
{{- $vault := merge (dict "key_file" "/etc/tocsin/keys/ring") ($config.vault | default dict) -}}
{{ include "tocsin.toml.section" (dict "name" "database" "keys" (dict "url_file" "/etc/tocsin/database/url")) }}
{{ include "tocsin.toml.section" (dict "name" "vault" "keys" $vault) }}
{{ include "tocsin.toml.section" (dict "name" "ops" "keys" (dict "listen" $ops)) }}
{{ include "tocsin.toml.section" (dict "name" "console" "keys" (dict "listen" $console "public_url" (include "tocsin.publicUrl" .) "operator" .Values.console.operator)) }}
{{- range $name := list "log" "poll" "ladder" "retention" "budget" }}
{{- with get $config $name }}
{{ include "tocsin.toml.section" (dict "name" $name "keys" .) }}
{{- end }}
{{- end }}
{{- $notify := $config.notify | default dict }}
{{- if .Values.notify.existingSecret }}
{{- $notify = merge (dict "url_file" "/etc/tocsin/notify/url" "secret_file" "/etc/tocsin/notify/secret") $notify }}
{{- end }}
{{- with $notify }}
{{ include "tocsin.toml.section" (dict "name" "notify" "keys" .) }}
{{- end }}
{{- range $name, $cloud := $config.clouds }}
{{ include "tocsin.toml.section" (dict "name" (printf "clouds.%s" $name) "keys" $cloud) }}
{{- end }}
{{- range $name, $app := .Values.apps }}
{{- $keys := dict "client_id" $app.clientId "grant" ($app.grant | default "refresh_token") "endpoint" ($app.endpoint | default "v2") }}
{{- with $app.credential }}
{{- if .workloadIdentity }}
{{- $_ := set $keys "federated_token_file" "/var/run/secrets/azure/tokens/azure-identity-token" }}
{{- end }}
{{- if .certificate }}
{{- $_ := set $keys "certificate_file" (printf "/etc/tocsin/apps/%s/tls.crt" $name) }}
{{- $_ := set $keys "private_key_file" (printf "/etc/tocsin/apps/%s/tls.key" $name) }}
{{- end }}
{{- with .clientSecret }}
{{- $_ := set $keys "client_secret_file" (printf "/etc/tocsin/apps/%s/secret" $name) }}
{{- with .expires }}
{{- $_ := set $keys "client_secret_expires" . }}
{{- end }}
{{- end }}
{{- end }}
{{ include "tocsin.toml.section" (dict "name" (printf "apps.%s" $name) "keys" $keys) }}
{{- end }}
{{- end -}}
