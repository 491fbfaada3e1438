package workersai

import (
	"encoding/json"
	"fmt"
)

// callList joins the pieces of streamed tool calls. Indexes and ids may be missing or repeated.
type callList []*callPiece

// join adds a piece to its call. A piece with no id, name or arguments is an end marker.
func (l *callList) join(p callPiece) {
	if p.id == "" && p.name == "" && p.args == "" {
		return
	}
	if c := l.find(p); c != nil {
		c.extend(p)
		return
	}
	*l = append(*l, &p)
}

// find is the call that a piece continues: the one with its id, else with its index, else the last.
func (l callList) find(p callPiece) *callPiece {
	for i := len(l) - 1; i >= 0 && p.id != ""; i-- {
		if l[i].id == p.id {
			return l[i]
		}
	}
	for i := len(l) - 1; i >= 0 && p.index != nil; i-- {
		if c := l[i]; c.index != nil && *c.index == *p.index {
			if c.takes(p) {
				return c
			}
			return nil
		}
	}
	if p.index != nil && p.name != "" || len(l) == 0 {
		return nil
	}
	if last := l[len(l)-1]; last.takes(p) {
		return last
	}
	return nil
}

// takes reports whether p can belong to c: a piece with another id, or with a name after a whole call, starts a new one.
func (c *callPiece) takes(p callPiece) bool {
	switch {
	case p.name == "":
		return p.id == "" || c.id == ""
	case p.id != "" && c.id != "":
		return false
	case c.whole():
		return p.index != nil && c.name == p.name && c.args == p.args
	}
	return c.name == "" || c.name == p.name
}

func (c *callPiece) whole() bool {
	return len(c.args) > 0 && c.args[0] == '{' && json.Valid([]byte(c.args))
}

func (c *callPiece) extend(p callPiece) {
	if c.name == "" {
		c.name = p.name
	}
	if c.id == "" {
		c.id = p.id
	}
	if !c.whole() || c.args != p.args { // else a whole call, repeated
		c.args += p.args
	}
}

// whole turns the pieces into calls. A call without an id gets one, and is native.
func (l callList) whole() ([]ToolCall, error) {
	var out []ToolCall
	for i, c := range l {
		args, err := objectText(c.args)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", c.name, err)
		}
		if c.name == "" {
			return nil, fmt.Errorf("call %d has no name", i+1)
		}
		call := ToolCall{ID: c.id, Name: c.name, Arguments: args, Native: c.id == ""}
		if call.Native {
			call.ID = fmt.Sprintf("call_%d", i+1)
		}
		out = append(out, call)
	}
	return out, nil
}
