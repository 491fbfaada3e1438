// Package workersai is a client of the Cloudflare Workers AI REST API, with its wire types and error codes.
package workersai
