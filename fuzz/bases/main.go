// The program whose bytes the fuzz targets change: small, and with something of everything that tracer reads.
//
// Built with -ldflags=-s and kept by the example fuzz_bases once it says "ready". It waits for the end of its input.
package main

import (
	"os"
	"runtime"
	"strconv"
	"time"
)

type node struct {
	name  string
	next  *node
	tags  []string
	value any
	done  func() int
}

type wide struct {
	rows [80]*node
	err  error
}

// A map that only the heap leads to.
type store struct {
	byNumber map[int]*node
}

var (
	names  = map[string]*node{}
	few    = map[int]int{1: 1}
	kept   []*node
	wides  []*wide
	blocks [][]byte
	held   = &store{byNumber: map[int]*node{}}
)

func init() { runtime.MemProfileRate = 4096 }

//go:noinline
func make1(n int) *node {
	text := "node " + strconv.Itoa(n)
	return &node{name: text, tags: []string{text}, value: n, done: func() int { return n }}
}

func main() {
	for n := 0; n < 300; n++ {
		one := make1(n)
		names[one.name] = one
		kept = append(kept, one)
	}
	for n := 0; n < 300; n += 3 {
		delete(names, kept[n].name)
	}
	for n := 0; n < 3000; n++ {
		held.byNumber[n] = kept[n%len(kept)]
	}
	for n := 0; n < 6; n++ {
		wides = append(wides, &wide{})
		blocks = append(blocks, make([]byte, 40000), make([]byte, 700))
	}
	stop := make(chan bool)
	for n := 0; n < 5; n++ {
		go func() { <-stop }()
		go func() { select {} }()
		go time.Sleep(time.Hour)
	}
	runtime.GC()
	runtime.GC()
	for n := 0; n < 50; n++ {
		kept = append(kept, make1(n))
	}
	records := make([]runtime.MemProfileRecord, 10)
	runtime.MemProfile(records, true)
	os.Stdout.WriteString("ready\n")
	os.Stdin.Read(make([]byte, 1))
	runtime.KeepAlive(kept)
	runtime.KeepAlive(held)
}
