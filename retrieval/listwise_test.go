package retrieval

import "testing"

func FuzzOrderOf(f *testing.F) {
	f.Add(`{"order": [2, 1, 2, 9]}`, 3)
	f.Add("```json\n{\"order\": []}\n```", 1)
	f.Fuzz(func(t *testing.T, text string, n int) {
		n = max(n%200, 1)
		scores, err := orderOf(text, n)
		if err != nil {
			return
		}
		if err := checkRerank(scores, n); err != nil {
			t.Errorf("orderOf(%q, %d): %v", text, n, err)
		}
	})
}
