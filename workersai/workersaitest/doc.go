// Package workersaitest serves the Workers AI REST API in tests: real HTTP on loopback, answers that are functions of
// their input, and a script of everything that goes wrong in the field: error codes, delays, cuts, resets, wrong vectors,
// malformed streams.
//
//	srv := workersaitest.New(t)
//	srv.Script(workersaitest.Capacity("7"), workersaitest.CutAt(120))
//	client := srv.Client(t)
//
// The first two calls meet the scripted faults, later ones true answers. Requests, CallTimes, TextCount and Aborts tell
// what the server saw.
package workersaitest
