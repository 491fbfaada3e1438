package retrieval

import (
	"strings"
	"testing"
)

func TestRecentTurnsFit(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("A sentence of the first answer stands here. ", 40)
	history := talk("First question?", long, "Second question?", "The second answer is short.", "Third question?", "The third answer is short too.")
	texts := func(budget int) (out []string) {
		kept, spent := recent(history, budget)
		if spent > budget {
			t.Errorf("%d tokens spent of %d", spent, budget)
		}
		for _, m := range kept {
			out = append(out, m.Role+" "+m.Content)
		}
		return out
	}
	if got := texts(100_000); len(got) != 6 {
		t.Errorf("with room for all: %q", got)
	}
	if got := texts(8); len(got) != 0 {
		t.Errorf("without room: %q", got)
	}
	sawShort := false
	for budget := range 700 {
		got := texts(budget)
		if len(got) == 0 {
			continue
		}
		if !strings.HasPrefix(got[0], "user ") || len(got)%2 != 0 || got[len(got)-2] != "user Third question?" {
			t.Errorf("with %d tokens: %q", budget, got)
		}
		if len(got) == 6 && len(got[1]) < len(long) {
			sawShort = true
			if !strings.HasSuffix(got[1], "stands here.") {
				t.Errorf("with %d tokens the first answer ends %q", budget, got[1][len(got[1])-30:])
			}
		}
	}
	if !sawShort {
		t.Error("no budget shortened the first answer")
	}
}
