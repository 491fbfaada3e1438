package main

import (
	"strconv"
	"strings"
)

// parseSize reads a memory budget such as 900MiB, in bytes; "" is 0, no limit.
func parseSize(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	number, shift := strings.TrimSpace(text), 0
	for unit, by := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30} {
		if n, ok := strings.CutSuffix(number, unit); ok {
			number, shift = strings.TrimSpace(n), by
			break
		}
	}
	f, err := strconv.ParseFloat(number, 64)
	if bytes := f * float64(int64(1)<<shift); err == nil && bytes >= 1<<20 && bytes < 1<<50 {
		return int64(bytes), nil
	}
	return 0, usagef("the memory budget is %q: give a size of at least 1MiB, such as 900MiB or 4GiB", text)
}
