module github.com/footnote-rag/footnote/modelhost/conformance/go

go 1.26.6

require (
	github.com/cloudflare/cloudflare-go/v7 v7.9.0
	github.com/footnote-rag/footnote v0.0.0
)

require (
	github.com/tidwall/gjson v1.20.0 // indirect
	github.com/tidwall/match v1.2.0 // indirect
	github.com/tidwall/pretty v1.2.1 // indirect
	github.com/tidwall/sjson v1.2.5 // indirect
)

replace github.com/footnote-rag/footnote => ../../..
