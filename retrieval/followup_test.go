package retrieval

import (
	"slices"
	"strings"
	"testing"

	"github.com/footnote-rag/footnote/workersai"
)

// talk makes a conversation of questions and answers in turn.
func talk(turns ...string) (messages []workersai.Message) {
	for i, text := range turns {
		messages = append(messages, workersai.Message{Role: []string{"user", "assistant"}[i%2], Content: text})
	}
	return messages
}

func TestStandaloneQuestions(t *testing.T) {
	t.Parallel()
	visa := talk("How long does a visa for Japan take?", "Five working days.")
	bridge := talk("When was the Arden bridge opened?", "It was opened in 1931 by Queen Mary.")
	for _, c := range []struct {
		history        []workersai.Message
		question, want string // want "": unchanged
	}{
		{visa, "How many photographs does it ask for?", "How many photographs does it ask for? (visa Japan)"},
		{visa, "And for Germany?", "How long does a visa for Germany take?"},
		{visa, "What about South Korea?", "How long does a visa for South Korea take?"},
		{append(slices.Clone(visa), talk("And for Germany?", "Ten days.")...), "And for France?", "How long does a visa for France take?"},
		{append(slices.Clone(visa), talk("And for Germany?", "Ten days.")...), "What does it cost?", "What does it cost? (visa Germany)"},
		{talk("What was the revenue in 2023?", "3 million."), "And in 2024?", "What was the revenue in 2024?"},
		{bridge, "Why?", "Why? (Arden bridge opened)"},
		{bridge, "Who was she?", "Who was she? (Arden bridge opened Queen Mary)"},
		{bridge, "And how long is it?", "And how long is it? (Arden bridge opened)"},
		{bridge, "Is that allowed?", "Is that allowed? (Arden bridge opened)"},
		{bridge, "Which is longer?", "Which is longer? (Arden bridge opened)"},
		{bridge, "Which are the oldest ones?", "Which are the oldest ones? (Arden bridge opened)"},

		{bridge, "When was it closed and who closed it?", "When was it closed and who closed it? (Arden bridge opened)"},

		{bridge, "What is a partial index and when is it useful?", ""},
		{bridge, "What is a partial index? When is it useful?", ""},
		{bridge, "What is HNSW?", ""},
		{bridge, "Which is the capital of Norway?", ""},
		{bridge, "Which is faster, GIN or GiST?", ""},
		{bridge, "How do I delete a collection?", ""},
		{bridge, "Which papers that mention rivers were published before 1950?", ""},
		{bridge, "Is there a limit on the size of documents?", ""},
		{bridge, "How long does it take to build the index?", ""},
		{bridge, "What does pg_stat_activity show?", ""},
		{nil, "And when was it closed?", ""},
	} {
		want := c.want
		if want == "" {
			want = c.question
		}
		if got := standalone(c.question, c.history); got != want {
			t.Errorf("standalone(%q) = %q, want %q", c.question, got, want)
		}
	}
}

func TestSplitQuestions(t *testing.T) {
	t.Parallel()
	for question, want := range map[string]string{
		"What is pgvector and how do I install it?":                       "What is pgvector? | How do I install it? (pgvector)",
		"What is a visa? How long does it take?":                          "What is a visa? | How long does it take? (visa)",
		"When was the bridge opened, and who built the Arden tunnel?":     "When was the bridge opened? | Who built the Arden tunnel?",
		"What is HNSW and how does IVFFlat work and why is recall lower?": "What is HNSW? | How does IVFFlat work? | Why is recall lower?",
		"What isolation levels are there and which is the default?":       "What isolation levels are there? | Which is the default? (isolation levels)",
		"How are salt and pepper stored?":                                 "",
		"What is the difference between what A does and what B does?":     "",
		"How long does a visa for Japan take?":                            "",
		"Research and development: what is spent on it?":                  "",
		"Tell me about rock and roll":                                     "",
		"What? And why?":                                                  "",
		"Really? Are you sure? What is it? And how? And when was it?":     "",
	} {
		if got := strings.Join(split(question), " | "); got != want {
			t.Errorf("split(%q) = %q, want %q", question, got, want)
		}
	}
}

func FuzzUnderstandByRule(f *testing.F) {
	f.Add("And for Germany?", "How long does a visa for Japan take?", "Five days.")
	f.Add("What is X and how do I Y?", "", "\xff")
	f.Fuzz(func(t *testing.T, question, before, answer string) {
		got := standalone(question, talk(before, answer))
		if got != standalone(question, talk(before, answer)) {
			t.Errorf("standalone(%q) is not the same each time", question)
		}
		if len(got) > len(question)+len(before)+len(answer)+64 {
			t.Errorf("standalone(%q) has %d bytes", question, len(got))
		}
		if parts := split(question); len(parts) == 1 || len(parts) > maxParts {
			t.Errorf("split(%q) = %q", question, parts)
		}
		seemsCompound(question)
	})
}
