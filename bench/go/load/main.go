// Command load asks a server at a fixed rate, whether or not it keeps up, and prints as JSON how long
// each answer took.
//
// Every connection has a timetable of its own. A request that could not be sent in time, because the
// one before was not answered yet, counts from when it should have been sent: a slow server cannot
// make the load go easy on it (no coordinated omission). The timetables are the same, so that as many
// requests arrive together as there are connections.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"
)

type plan struct {
	// URL is the server's, without a path.
	URL         string  `json:"url"`
	Connections int     `json:"connections"`
	Rate        float64 `json:"rate"` // requests a second, over all connections
	Seconds     float64 `json:"seconds"`
	WarmUp      float64 `json:"warmUp"` // seconds that do not count
	// Bodies maps verbs to files that are sent in turn.
	Bodies map[string][]string `json:"bodies"`
}

// request is one kind of question with its body, read once.
type request struct {
	verb string
	body []byte
}

// taken is how long one answer took.
type taken struct {
	verb    string
	after   time.Duration
	problem string
}

// seen is what became of the requests of one verb.
type seen struct {
	// Milliseconds is how long each answer took, shortest first.
	Milliseconds []float64 `json:"milliseconds"`
	Errors       int       `json:"errors"`
	FirstError   string    `json:"firstError"`
}

func main() {
	path := flag.String("plan", "", "JSON file with what to send")
	flag.Parse()
	var p plan
	text, err := os.ReadFile(*path)
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil {
		log.Fatalf("-plan: %v", err)
	}
	requests, err := read(p.Bodies)
	if err != nil {
		log.Fatal(err)
	}
	table := map[string]*seen{}
	for _, one := range run(p, requests) {
		if table[one.verb] == nil {
			table[one.verb] = &seen{}
		}
		table[one.verb].add(one)
	}
	for _, all := range table {
		slices.Sort(all.Milliseconds)
	}
	if err := json.NewEncoder(os.Stdout).Encode(table); err != nil {
		log.Fatal(err)
	}
}

// read lists the requests so that the verbs take turns.
func read(bodies map[string][]string) ([]request, error) {
	verbs := []string{}
	longest := 0
	for verb, paths := range bodies {
		verbs = append(verbs, verb)
		longest = max(longest, len(paths))
	}
	slices.Sort(verbs)
	requests := []request{}
	for i := range longest {
		for _, verb := range verbs {
			paths := bodies[verb]
			body, err := os.ReadFile(paths[i%len(paths)])
			if err != nil {
				return nil, err
			}
			requests = append(requests, request{verb, body})
		}
	}
	if len(requests) == 0 {
		return nil, fmt.Errorf("nothing to send")
	}
	return requests, nil
}

func run(p plan, requests []request) []taken {
	start := time.Now().Add(10 * time.Millisecond)
	interval := time.Duration(float64(p.Connections) / p.Rate * float64(time.Second))
	results := make([][]taken, p.Connections)
	var group sync.WaitGroup
	for c := range p.Connections {
		group.Go(func() {
			client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
			for n := 0; ; n++ {
				due := start.Add(time.Duration(n) * interval)
				since := due.Sub(start).Seconds()
				if since >= p.WarmUp+p.Seconds {
					return
				}
				time.Sleep(time.Until(due))
				next := requests[(n*p.Connections+c)%len(requests)]
				one := ask(client, p.URL, next, due)
				if since >= p.WarmUp {
					results[c] = append(results[c], one)
				}
			}
		})
	}
	group.Wait()
	return slices.Concat(results...)
}

func ask(client *http.Client, url string, what request, due time.Time) taken {
	one := taken{verb: what.verb}
	answer, err := client.Post(url+"/"+what.verb, "application/json", bytes.NewReader(what.body))
	if err != nil {
		one.problem = err.Error()
	} else {
		_, err := io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		if err != nil {
			one.problem = err.Error()
		} else if answer.StatusCode != http.StatusOK {
			one.problem = answer.Status
		}
	}
	one.after = time.Since(due)
	return one
}

func (all *seen) add(one taken) {
	all.Milliseconds = append(all.Milliseconds, float64(one.after)/float64(time.Millisecond))
	if one.problem != "" {
		all.Errors++
		all.FirstError = one.problem
	}
}
