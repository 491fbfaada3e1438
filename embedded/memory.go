package embedded

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// engineOverhead is what an engine takes beside its weights before it was measured: code, buffers, a small context.
const engineOverhead = 128 << 20 // bytes

// Memory is how many bytes the engine takes while it runs: the most that was measured, before its first start an
// estimate from its files.
func (s *Server) Memory() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil && !s.proc.dead() {
		s.peak = max(s.peak, residentPeak(s.proc.cmd.Process.Pid))
	}
	if s.peak > 0 {
		return s.peak
	}
	estimate := int64(engineOverhead)
	for _, name := range s.files {
		if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
			estimate += info.Size()
		}
	}
	return estimate
}

// residentPeak reads a process's high-water mark in bytes, 0 if the system does not tell.
func residentPeak(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, found := bytes.Cut(status, []byte("\nVmHWM:"))
	fields := bytes.Fields(rest)
	if !found || len(fields) < 2 {
		return 0
	}
	kib, err := strconv.ParseInt(string(fields[0]), 10, 64)
	if err != nil {
		return 0
	}
	return kib << 10
}

// Running tells whether the process is there.
func (s *Server) Running() bool { return s.PID() != 0 }

// Unload stops the process, unless somebody uses it. It starts again when it is next needed.
func (s *Server) Unload() { s.stopIdle() }
