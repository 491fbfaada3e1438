package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// indexStateTTL is how soon a search notices that an index was built or lost.
	indexStateTTL = 5 * time.Second

	// growingFactor times Config.IndexAfter rows are indexed although more are coming: exact scans get too slow.
	growingFactor = 4

	// The index's parameters are pgvector's defaults; recall is set by hnsw.ef_search.
	hnswM, hnswEFConstruction = 16, 64

	// buildWorkers leaves cores for searches while an index is built.
	buildWorkers = 2

	// A graph that fits into maintenance_work_mem is built several times faster.
	maxBuildMemory  = 2 << 30 // a million rows of 384 dimensions
	graphBaseBytes  = 4 << 20
	graphRowBytes   = 896 // a row's links and overhead, over its numbers; 790 were seen in a build without helpers
	halfvecNumBytes = 2
)

// maintenance remembers how many rows a space had at the last call of Maintain.
type maintenance struct {
	mu   sync.Mutex
	rows map[int64]int64
}

// stopped tells that the space has as many rows as the last time.
func (m *maintenance) stopped(space, rows int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	last, known := m.rows[space]
	if m.rows == nil {
		m.rows = map[int64]int64{}
	}
	m.rows[space] = rows
	return known && last == rows
}

// Maintain builds the HNSW indexes that are missing: of spaces with Config.IndexAfter rows or more whose number stays the same
// from one call to the next (a load has ended), or that got very large meanwhile. It drops what a broken build has left.
// It also merges the segments of the inverted index (segments.go). Call it every few seconds in every process; one at a time
// works, the others return at once. Searches and writes go on.
// ErrUnavailable, ErrStorageFull.
func (s *Store) Maintain(ctx context.Context) error {
	return mapped("maintain indexes", s.maintain(ctx))
}

func (s *Store) maintain(ctx context.Context) error {
	conn, err := s.maintenanceConn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var leader bool
	if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", lockMaintenance).Scan(&leader); err != nil || !leader {
		return err
	}
	// The end of the connection would unlock, too, but a moment after we have returned.
	defer func() {
		_, _ = conn.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", lockMaintenance)
	}()
	spaces, err := spaceRows(ctx, conn)
	if err != nil {
		return err
	}
	errs := []error{s.maintainPostings(ctx)} // one's trouble does not keep the others from their index
	for _, space := range spaces {
		errs = append(errs, s.maintainSpace(ctx, conn, space))
	}
	return errors.Join(errs...)
}

// maintenanceConn has no timeouts of statements or locks: a build takes as long as it takes, and blocks nobody. A context that
// ends cancels it in the server.
func (s *Store) maintenanceConn(ctx context.Context) (*pgx.Conn, error) {
	conf, err := pgx.ParseConfig(s.cfg.URL)
	if err != nil {
		return nil, err
	}
	conf.ConnectTimeout = connectTimeout
	conf.BuildContextWatcherHandler = cancelWatcher
	conf.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if n.SeverityUnlocalized == "WARNING" || strings.Contains(n.Message, "maintenance_work_mem") { // the graph goes on disk
			s.cfg.Logger.Warn("building an index", "notice", n.Message, "detail", n.Detail, "hint", n.Hint)
		}
	}
	for key, value := range map[string]string{"application_name": "footnote maintenance", "statement_timeout": "0", "lock_timeout": "0",
		"idle_session_timeout": "0", "max_parallel_maintenance_workers": fmt.Sprint(buildWorkers)} {
		conf.RuntimeParams[key] = value
	}
	return pgx.ConnectConfig(ctx, conf)
}

// sizedSpace is a space with the number of its visible vectors.
type sizedSpace struct {
	Space
	rows int64
}

func spaceRows(ctx context.Context, conn *pgx.Conn) ([]sizedSpace, error) {
	rows, err := conn.Query(ctx, `
		SELECT s.id, s.dimensions, coalesce(sum(n.chunks), 0)::bigint
		FROM spaces s LEFT JOIN collections c ON c.space_id = s.id LEFT JOIN collection_counters n ON n.collection_id = c.id
		GROUP BY s.id ORDER BY s.id`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (sp sizedSpace, err error) {
		err = row.Scan(&sp.ID, &sp.Dimensions, &sp.rows)
		return sp, err
	})
}

func (s *Store) maintainSpace(ctx context.Context, conn *pgx.Conn, space sizedSpace) error {
	valid, err := s.dropInvalid(ctx, conn, space)
	if err != nil {
		return err
	}
	stopped := s.maintenance.stopped(space.ID, space.rows)
	after := int64(s.cfg.IndexAfter)
	if valid || space.rows < after || !stopped && space.rows < growingFactor*after {
		return nil
	}
	start := time.Now()
	s.cfg.Logger.Info("building the index of a space; searches compare every row until it is there", "space", space.ID, "rows", space.rows)
	if err := s.build(ctx, conn, space); err != nil {
		return fmt.Errorf("build the index of space %d: %w", space.ID, err)
	}
	if _, err := conn.Exec(ctx, "ANALYZE "+space.table()); err != nil {
		return err
	}
	s.indexes.Delete(space.ID)
	s.cfg.Logger.Info("built the index of a space", "space", space.ID, "rows", space.rows, "seconds", time.Since(start).Seconds())
	return nil
}

// hnswIndexes of a space; those that someone is building right now are neither valid nor broken.
const hnswIndexes = `
	SELECT c.relname, i.indisvalid AND i.indisready, EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = c.oid)
	FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
	WHERE i.indrelid = to_regclass($1) AND a.amname = 'hnsw'`

// dropInvalid removes what broken builds have left and tells whether there is an index, or will be.
func (s *Store) dropInvalid(ctx context.Context, conn *pgx.Conn, space sizedSpace) (valid bool, err error) {
	rows, err := conn.Query(ctx, hnswIndexes, space.table())
	if err != nil {
		return false, err
	}
	var broken []string
	var name string
	var usable, building bool
	_, err = pgx.ForEachRow(rows, []any{&name, &usable, &building}, func() error {
		valid = valid || usable || building
		if !usable && !building {
			broken = append(broken, name)
		}
		return nil
	})
	for _, name := range broken {
		if err != nil {
			break
		}
		s.cfg.Logger.Warn("dropping an invalid index, which a build that broke off has left", "space", space.ID, "index", name)
		_, err = conn.Exec(ctx, "DROP INDEX CONCURRENTLY IF EXISTS "+pgx.Identifier{name}.Sanitize())
	}
	return valid, err
}

// build makes the index without blocking writers; alone where the server's shared memory is too small for helpers, as it is
// in containers by default.
func (s *Store) build(ctx context.Context, conn *pgx.Conn, space sizedSpace) error {
	if err := giveMemory(ctx, conn, space); err != nil {
		return err
	}
	create := fmt.Sprintf("CREATE INDEX CONCURRENTLY %[1]s_hnsw ON %[1]s USING hnsw (embedding halfvec_ip_ops) WITH (m = %[2]d, ef_construction = %[3]d)",
		space.table(), hnswM, hnswEFConstruction)
	_, err := conn.Exec(ctx, create)
	if !lacksSharedMemory(err) {
		return err
	}
	s.cfg.Logger.Warn("the database server's shared memory is too small to build an index in parallel: building alone; a larger /dev/shm (docker run --shm-size) makes it faster", "space", space.ID)
	if _, err := s.dropInvalid(ctx, conn, space); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "SET max_parallel_maintenance_workers = 0"); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, create)
	return err
}

// giveMemory raises maintenance_work_mem, never lowers it, to what the graph needs.
func giveMemory(ctx context.Context, conn *pgx.Conn, space sizedSpace) error {
	need := min(maxBuildMemory, graphBaseBytes+space.rows*int64(space.Dimensions*halfvecNumBytes+graphRowBytes))
	_, err := conn.Exec(ctx, `
		SELECT set_config('maintenance_work_mem', greatest(setting::bigint, $1 / 1024)::text || 'kB', false)
		FROM pg_settings WHERE name = 'maintenance_work_mem'`, need)
	return err
}

func lacksSharedMemory(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == "53100" && strings.Contains(pgErr.Message, "shared memory")
}

// indexState is what is known of a space's index.
type indexState struct {
	turn    chan struct{} // held while the fields are read or written
	valid   bool
	checked time.Time
}

// indexed tells whether the space has a usable index, as of a few seconds ago. If the database does not say, the last answer
// stands: the search itself will meet the trouble.
func (s *Store) indexed(ctx context.Context, spaceID int64) bool {
	found, _ := s.indexes.LoadOrStore(spaceID, &indexState{turn: make(chan struct{}, 1)})
	state := found.(*indexState)
	if err := enter(ctx, state.turn); err != nil {
		return false
	}
	defer func() { <-state.turn }()
	if time.Since(state.checked) < indexStateTTL {
		return state.valid
	}
	valid, err := hasIndex(ctx, s.read, Space{ID: spaceID})
	if err == nil {
		state.valid = valid
	}
	state.checked = time.Now()
	return state.valid
}

func hasIndex(ctx context.Context, pool *pgxpool.Pool, space Space) (bool, error) {
	return one(ctx, pool, pgx.RowTo[bool], "SELECT EXISTS (SELECT FROM ("+hnswIndexes+") AS i(name, usable, building) WHERE usable)", space.table())
}
