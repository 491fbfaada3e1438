package testdb

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/footnote-rag/footnote/migrations"
)

// Template is a database that fresh ones are copied from. It is made once a server.
type Template struct {
	Key  string                                      // names its content: another key, another template
	Make func(ctx context.Context, url string) error // fills it; must close its connections
}

const (
	namePrefix     = "footnote_test_"
	templatePrefix = "footnote_template_"
	leftoverAge    = time.Hour // a test's database older than this is of a process that was killed

	databaseTimeout = time.Minute // many tests create theirs at once
	lockTemplates   = 0x666f6f74_7465_7374
)

// Empty makes a database without tables and drops it at the test's end.
func Empty(t testing.TB) string {
	t.Helper()
	return create(t, func(context.Context, *pgx.Conn) (string, error) { return "template0", nil })
}

// Copy makes a database like the template and drops it at the test's end.
func Copy(t testing.TB, from Template) string {
	t.Helper()
	server := Server(t)
	return create(t, func(ctx context.Context, conn *pgx.Conn) (string, error) { return from.ensure(ctx, conn, server) })
}

func create(t testing.TB, template func(context.Context, *pgx.Conn) (string, error)) string {
	t.Helper()
	server := Server(t)
	name := namePrefix + strconv.FormatInt(time.Now().Unix(), 36) + "_" + strings.ToLower(rand.Text()[:10])
	err := admin(server, func(ctx context.Context, conn *pgx.Conn) error {
		from, err := template(ctx, conn)
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+from)
		return err
	})
	if err != nil {
		t.Fatalf("create a database for the test: %v", err)
	}
	t.Cleanup(func() {
		err := admin(server, func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
			return err
		})
		if err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	return withDatabase(server, name)
}

// admin runs f on a connection to the server's own database.
func admin(server string, f func(ctx context.Context, conn *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), databaseTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return f(ctx, conn)
}

// ensure makes the template if it is not there, whole or not at all, and returns its name.
func (tpl Template) ensure(ctx context.Context, conn *pgx.Conn, server string) (string, error) {
	name := templatePrefix + tpl.Key
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(lockTemplates)); err != nil {
		return "", err
	}
	defer func() { _, _ = conn.Exec(ctx, "SELECT pg_advisory_unlock($1)", int64(lockTemplates)) }()
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists); err != nil || exists {
		return name, err
	}
	unfinished := name + "_new"
	for _, sql := range []string{"DROP DATABASE IF EXISTS " + unfinished + " WITH (FORCE)", "CREATE DATABASE " + unfinished + " TEMPLATE template0"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return "", err
		}
	}
	if err := tpl.Make(ctx, withDatabase(server, unfinished)); err != nil {
		return "", fmt.Errorf("fill the template: %w", err)
	}
	// Nobody may connect to it: CREATE DATABASE refuses a template that is in use.
	for _, sql := range []string{"ALTER DATABASE " + unfinished + " ALLOW_CONNECTIONS false", "ALTER DATABASE " + unfinished + " RENAME TO " + name} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return "", err
		}
	}
	return name, nil
}

// dropLeftovers removes databases of test processes that were killed.
func dropLeftovers(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, "SELECT datname FROM pg_database d WHERE starts_with(datname, $1) AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datid = d.oid)", namePrefix)
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range names {
		made, _, _ := strings.Cut(strings.TrimPrefix(name, namePrefix), "_")
		seconds, err := strconv.ParseInt(made, 36, 64)
		if err != nil || time.Since(time.Unix(seconds, 0)) < leftoverAge {
			continue
		}
		// Another process may be dropping it: not this one's trouble.
		_, _ = conn.Exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize())
	}
	return nil
}

func withDatabase(server, name string) string {
	u, err := url.Parse(server)
	if err != nil {
		panic(err) // pgx has connected with it
	}
	u.Path = "/" + name
	return u.String()
}

// SchemaKey is the Key of a Template with all migrations; it changes with them.
func SchemaKey() string {
	names, err := fs.Glob(migrations.Files, "*.sql")
	if err != nil {
		panic(err)
	}
	sum := sha256.New()
	for _, name := range names {
		b, err := fs.ReadFile(migrations.Files, name)
		if err != nil {
			panic(err) // it is embedded
		}
		sum.Write([]byte(name))
		sum.Write(b)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}
