package modelhost_test

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/footnote-rag/footnote/embedded"
	"github.com/footnote-rag/footnote/modelhost"
	"github.com/footnote-rag/footnote/workersai"
)

// machine is where engines run: it knows how much memory they take together.
type machine struct {
	mu       sync.Mutex
	resident int64
	most     int64
}

// testEngine is an engine of a machine that answers at url.
type testEngine struct {
	m       *machine
	url     string
	size    int64
	running bool // under m.mu, as the rest
	users   int
	starts  int
}

func (e *testEngine) Acquire(context.Context) (string, func(), error) {
	e.m.mu.Lock()
	defer e.m.mu.Unlock()
	if !e.running {
		e.running = true
		e.starts++
		e.m.resident += e.size
		e.m.most = max(e.m.most, e.m.resident)
	}
	e.users++
	return e.url, func() { e.m.mu.Lock(); e.users--; e.m.mu.Unlock() }, nil
}

func (e *testEngine) Memory() int64 { return e.size }

func (e *testEngine) Running() bool {
	e.m.mu.Lock()
	defer e.m.mu.Unlock()
	return e.running
}

func (e *testEngine) Unload() {
	e.m.mu.Lock()
	defer e.m.mu.Unlock()
	if e.users == 0 && e.running {
		e.running = false
		e.m.resident -= e.size
	}
}

// budgetHost serves @x/t/a, @x/t/b … from engines of these sizes within a budget.
func budgetHost(t *testing.T, u *upstream, budget int64, sizes ...int64) (*httptest.Server, *machine, []*testEngine) {
	t.Helper()
	m := &machine{}
	var engines []*testEngine
	srv := newHost(t, u.URL, func(c *modelhost.Config) {
		c.MemoryBudget, c.Engines, c.Catalogue = budget, map[string]modelhost.Engine{}, modelhost.Catalogue{}
		for i, size := range sizes {
			name := string(rune('a' + i))
			e := &testEngine{m: m, url: u.URL, size: size}
			engines = append(engines, e)
			c.Engines[name] = e
			c.Catalogue.Models = append(c.Catalogue.Models, modelhost.Model{Name: "@x/t/" + name, Task: modelhost.TaskEmbeddings, Backends: []modelhost.Backend{{Engine: name}}})
		}
	})
	return srv, m, engines
}

func embedAt(t *testing.T, srv *httptest.Server, model, text string) int {
	resp, _ := post(t, srv.URL+root+"run/@x/t/"+model, `{"text":"`+text+`"}`)
	return resp.StatusCode
}

func loaded(engines []*testEngine) (names string) {
	for i, e := range engines {
		if e.Running() {
			names += string(rune('a' + i))
		}
	}
	return names
}

func TestMemoryBudgetUnloadsTheLongestUnused(t *testing.T) {
	t.Parallel()
	srv, m, engines := budgetHost(t, newUpstream(t), 100, 40, 40, 40, 90)
	for _, step := range []struct{ ask, want string }{{"a", "a"}, {"b", "ab"}, {"a", "ab"}, {"c", "ac"}, {"c", "ac"}, {"b", "bc"}, {"d", "d"}, {"a", "a"}} {
		if got := embedAt(t, srv, step.ask, "x"); got != http.StatusOK {
			t.Fatalf("%s got %d", step.ask, got)
		}
		if got := loaded(engines); got != step.want {
			t.Errorf("after %s there are %s, want %s", step.ask, got, step.want)
		}
	}
	if m.most > 100 {
		t.Errorf("the engines took %d together, the budget is 100", m.most)
	}
}

func TestMemoryBudgetIsToldWhereItIsTooSmall(t *testing.T) {
	t.Parallel()
	srv, _, _ := budgetHost(t, newUpstream(t), 10<<20, 20<<20)
	resp, env := post(t, srv.URL+root+"run/@x/t/a", `{"text":"x"}`)
	if resp.StatusCode != 404 || env.Errors[0].Code != 7502 || !strings.Contains(env.Errors[0].Message, "takes 20 MiB of memory, the budget of this host is 10 MiB") {
		t.Errorf("got %d %+v, want 404, 7502 and both numbers", resp.StatusCode, env.Errors)
	}
}

// holding makes the upstream keep the texts "hold" until release is closed.
func holding(t *testing.T) (u *upstream, held chan struct{}, release func()) {
	t.Helper()
	held, free := make(chan struct{}, 100), make(chan struct{})
	u = newUpstream(t)
	u.embed = func(_ http.ResponseWriter, r *http.Request, texts []string) bool {
		if slices.Contains(texts, "hold") {
			held <- struct{}{}
			select {
			case <-free:
			case <-r.Context().Done():
			}
		}
		return false
	}
	return u, held, sync.OnceFunc(func() { close(free) })
}

func TestMemoryBudgetWaitsWhileAllAreBusy(t *testing.T) {
	t.Parallel()
	u, held, release := holding(t)
	defer release()
	srv, m, engines := budgetHost(t, u, 100, 60, 60)
	first, second := make(chan int, 1), make(chan int, 1)
	go func() { first <- embedAt(t, srv, "a", "hold") }()
	<-held
	ctx, cancel := context.WithCancel(t.Context()) // one that leaves while it waits harms nobody
	go func() {
		c := clientOf(t, srv)
		_, err := c.Embed(ctx, workersai.EmbedRequest{Model: "@x/t/b", Texts: []string{"x"}})
		if err == nil {
			t.Error("a request that had left was answered")
		}
		second <- 0
	}()
	cancel()
	<-second
	go func() { second <- embedAt(t, srv, "b", "x") }()
	if got := embedAt(t, srv, "a", "y"); got != 200 || loaded(engines) != "a" {
		t.Errorf("beside the one that is busy: %d, loaded %s, want 200 and a alone", got, loaded(engines))
	}
	select {
	case got := <-second:
		t.Errorf("b was answered with %d while a was busy", got)
	default:
	}
	release()
	if a, b := <-first, <-second; a != 200 || b != 200 || loaded(engines) != "b" || m.most > 100 {
		t.Errorf("a got %d, b got %d, loaded %s, most memory %d; want both answered and b there", a, b, loaded(engines), m.most)
	}
}

// TestMemoryBudgetIsFair: requests for one model that always overlap do not keep another out.
func TestMemoryBudgetIsFair(t *testing.T) {
	t.Parallel()
	srv, m, _ := budgetHost(t, newUpstream(t), 100, 60, 60)
	stop := make(chan struct{})
	var busy sync.WaitGroup
	for range 4 {
		busy.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					embedAt(t, srv, "a", "x")
				}
			}
		})
	}
	for range 3 {
		if got := embedAt(t, srv, "b", "x"); got != 200 {
			t.Errorf("b got %d", got)
		}
	}
	close(stop)
	busy.Wait()
	if m.most > 100 {
		t.Errorf("the engines took %d together, the budget is 100", m.most)
	}
}

func TestMemoryBudgetHoldsUnderLoad(t *testing.T) {
	t.Parallel()
	srv, m, engines := budgetHost(t, newUpstream(t), 100, 30, 45, 60, 20)
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for range 25 {
				if got := embedAt(t, srv, string(rune('a'+r.IntN(4))), "x"); got != 200 {
					t.Errorf("got %d", got)
				}
			}
		})
	}
	clients.Wait()
	starts := 0
	for _, e := range engines {
		starts += e.starts
	}
	if m.most > 100 || starts < 5 {
		t.Errorf("most memory %d of 100, %d starts", m.most, starts)
	}
}

// TestMemoryBudgetContract: real engines that do not fit together take turns, and what they need is measured.
func TestMemoryBudgetContract(t *testing.T) {
	t.Parallel()
	engine := func(choose func(*embedded.Cache, *embedded.LlamaConfig) error) *embedded.Llama {
		return engineOf(t, func() (*embedded.Llama, error) { return newLlama(choose) })
	}
	embeds := engine(func(c *embedded.Cache, cfg *embedded.LlamaConfig) error {
		w, err := c.MiniLM(t.Context(), embedded.Q80)
		cfg.Model, cfg.Pooling = w.Path, w.Pooling
		return err
	})
	chats := engine(func(c *embedded.Cache, cfg *embedded.LlamaConfig) error {
		w, err := c.SmolLM2(t.Context())
		cfg.Model, cfg.Kind, cfg.Context, cfg.Parallel = w.Path, embedded.Chat, 2048, 1
		return err
	})
	var sizes []int64
	for _, e := range []*embedded.Llama{embeds, chats} {
		guessed := e.Memory()
		_, release, err := e.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		release()
		if sizes = append(sizes, e.Memory()); guessed < 32<<20 || sizes[len(sizes)-1] == guessed {
			t.Errorf("%d bytes guessed, %d measured", guessed, sizes[len(sizes)-1])
		}
		e.Unload()
	}
	srv := realHost(t, func(c *modelhost.Config) {
		c.Engines = map[string]modelhost.Engine{modelhost.EngineMiniLM: embeds, modelhost.EngineSmolLM2: chats}
		c.MemoryBudget = slices.Max(sizes) + slices.Min(sizes)/2
	})
	c := clientOf(t, srv)
	for round := range 2 {
		if _, err := c.Embed(t.Context(), workersai.EmbedRequest{Model: embedModel, Texts: []string{"a"}}); err != nil {
			t.Fatal(err)
		}
		if !embeds.Running() || chats.Running() {
			t.Errorf("round %d: after embedding: embeds %v, chats %v, want the first alone", round, embeds.Running(), chats.Running())
		}
		if _, err := c.Chat(t.Context(), ask("hi", 2)); err != nil {
			t.Fatal(err)
		}
		if embeds.Running() || !chats.Running() {
			t.Errorf("round %d: after chatting: embeds %v, chats %v, want the second alone", round, embeds.Running(), chats.Running())
		}
	}
}
