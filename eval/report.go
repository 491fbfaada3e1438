package eval

import (
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"math"
	"net/url"
	"slices"
	"strings"
)

//go:embed report.html
var reportHTML string

//go:embed report.css
var reportCSS string

// Report writes the run as one page that needs nothing else: which questions failed, what was found instead, what the answers
// said. It has no script, its content security policy allows nothing but its own style sheet, and all text is escaped. Worst
// questions come first.
func Report(w io.Writer, r *Run) error {
	t, err := template.New("report").Funcs(template.FuncMap{"score": score, "value": func(f float64) string { return fmt.Sprintf("%.3f", f) },
		"ms": func(f float64) string { return fmt.Sprintf("%.1f ms", f) }}).Parse(reportHTML)
	if err != nil {
		return err
	}
	hash := sha256.Sum256([]byte(reportCSS))
	return t.Execute(w, reportPage{Run: r, CSS: template.CSS(reportCSS), StyleHash: "sha256-" + base64.StdEncoding.EncodeToString(hash[:]),
		Metrics: reportMetrics(r.Means), Questions: reportQuestions(r)})
}

type reportPage struct {
	*Run
	CSS       template.CSS // ours, the same bytes that StyleHash allows
	StyleHash string
	Metrics   []reportMetric
	Questions []reportQuestion
}

type reportMetric struct {
	Name  string
	Value float64
}

type reportQuestion struct {
	Result
	Failed   bool
	Score    float64 // of what makes a question fail
	Scored   bool
	Metrics  []reportMetric
	Expected []reportExpected
	Found    []reportHit
	Verdicts []reportCitation
}

// reportExpected is a document that should have been found.
type reportExpected struct {
	Document string
	Grade    int
	Rank     int // 0: it was not found
	Quote    string
}

type reportHit struct {
	Hit
	Number int
	Link   string
	Right  bool
}

type reportCitation struct {
	Citation
	Link string
}

func score(f float64) string { return fmt.Sprintf("%.4g", f) }

func reportMetrics(values map[string]float64) []reportMetric {
	var all []reportMetric
	for _, name := range SortedMetrics(values) {
		all = append(all, reportMetric{name, values[name]})
	}
	return all
}

// failing is the metric by which a question counts as failed, the first that it has; below the value it has failed.
var failing = []Minimum{{"ndcg@10", math.SmallestNonzeroFloat64}, {"span_recall@5", 0.5}, {"f1", 0.2}, {"citation_precision", 0.5}}

func reportQuestions(r *Run) []reportQuestion {
	var all []reportQuestion
	for _, res := range r.Results {
		q := reportQuestion{Result: res, Metrics: reportMetrics(res.Metrics), Score: math.Inf(1), Failed: res.Error != ""}
		for _, f := range failing {
			if v, ok := res.Metrics[f.Metric]; ok {
				q.Score, q.Scored, q.Failed = v, true, q.Failed || v < f.Value
				break
			}
		}
		if a := res.Answer; a != nil && a.Refused != res.Unanswerable {
			q.Failed = true
		}
		q.Expected = expectations(res)
		for i, h := range res.Hits {
			q.Found = append(q.Found, reportHit{h, i + 1, documentLink(r.Server, h.DocumentID), rightHit(res.Question, h)})
		}
		if res.Answer != nil {
			for _, c := range res.Answer.Citations {
				q.Verdicts = append(q.Verdicts, reportCitation{c, documentLink(r.Server, c.DocumentID)})
			}
		}
		all = append(all, q)
	}
	slices.SortStableFunc(all, func(a, b reportQuestion) int {
		if a.Failed != b.Failed {
			return int(boolScore(b.Failed) - boolScore(a.Failed))
		}
		return cmp.Compare(a.Score, b.Score)
	})
	return all
}

func rightHit(q Question, h Hit) bool {
	if len(q.Quotes) > 0 {
		return slices.ContainsFunc(q.Quotes, func(quote Quote) bool {
			return quote.Document == h.Document && min(quote.End, h.End) > max(quote.Start, h.Start)
		})
	}
	return q.Grades[h.Document] > 0
}

func expectations(r Result) []reportExpected {
	ranking := slices.SortedFunc(slices.Values(r.Ranking), trecOrder)
	rank := func(document string) int {
		return 1 + slices.IndexFunc(ranking, func(d Ranked) bool { return d.Document == document })
	}
	var all []reportExpected
	for _, q := range r.Quotes {
		all = append(all, reportExpected{q.Document, 1, rank(q.Document), q.Text})
	}
	if len(all) > 0 {
		return all
	}
	for document, grade := range r.Grades {
		if grade > 0 {
			all = append(all, reportExpected{Document: document, Grade: grade, Rank: rank(document)})
		}
	}
	slices.SortFunc(all, func(a, b reportExpected) int {
		return cmp.Or(cmp.Compare(b.Grade, a.Grade), strings.Compare(a.Document, b.Document))
	})
	return all
}

// documentLink opens the document's text at the server; "" without one, or if the server's address is no web address.
func documentLink(server, id string) string {
	u, err := url.Parse(server)
	if id == "" || err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return ""
	}
	return u.JoinPath("v1", "documents", url.PathEscape(id), "text").String()
}
