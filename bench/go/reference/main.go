// Command reference is the yardstick: a scheduler extender as one writes it in Go, with the upstream
// types and encoding/json. It decides nothing by itself: which nodes fit a workload, and with what
// score, comes from a table that the benchmark has asked the measured extender for.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"

	v1 "k8s.io/api/core/v1"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"
)

// workloadLabel names the row of the table that a pod's decisions are in.
const workloadLabel = "bench.modelcache.dev/workload"

const refusal = "node cache does not hold the model"

// scores has the nodes that fit one workload.
type scores map[string]int64

type extender struct {
	table map[string]scores
	// listRejected names every refused node with its reason, as most extenders do; otherwise only
	// where none passes.
	listRejected bool
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on")
	table := flag.String("table", "", "JSON file: workload -> node -> score")
	listRejected := flag.Bool("list-rejected", false, "name every refused node")
	flag.Parse()
	e := &extender{listRejected: *listRejected}
	if err := readJSON(*table, &e.table); err != nil {
		log.Fatalf("-table: %v", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /filter", e.filter)
	mux.HandleFunc("POST /prioritize", e.prioritize)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(listener, mux))
}

func readJSON(path string, into any) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return json.NewDecoder(file).Decode(into)
}

func (e *extender) filter(w http.ResponseWriter, r *http.Request) {
	var args extenderv1.ExtenderArgs
	if err := json.NewDecoder(r.Body).Decode(&args); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fits := e.table[args.Pod.Labels[workloadLabel]]
	result := extenderv1.ExtenderFilterResult{}
	refused := extenderv1.FailedNodesMap{}
	if args.NodeNames != nil {
		passed := make([]string, 0, len(*args.NodeNames))
		for _, name := range *args.NodeNames {
			if _, ok := fits[name]; ok {
				passed = append(passed, name)
			} else {
				refused[name] = refusal
			}
		}
		result.NodeNames = &passed
		e.list(&result, refused, len(passed))
	} else if args.Nodes != nil {
		passed := &v1.NodeList{Items: make([]v1.Node, 0, len(args.Nodes.Items))}
		for _, node := range args.Nodes.Items {
			if _, ok := fits[node.Name]; ok {
				passed.Items = append(passed.Items, node)
			} else {
				refused[node.Name] = refusal
			}
		}
		result.Nodes = passed
		e.list(&result, refused, len(passed.Items))
	}
	answer(w, result)
}

func (e *extender) list(result *extenderv1.ExtenderFilterResult, refused extenderv1.FailedNodesMap, passed int) {
	if e.listRejected || passed == 0 {
		result.FailedAndUnresolvableNodes = refused
	}
}

func (e *extender) prioritize(w http.ResponseWriter, r *http.Request) {
	var args extenderv1.ExtenderArgs
	if err := json.NewDecoder(r.Body).Decode(&args); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fits := e.table[args.Pod.Labels[workloadLabel]]
	result := extenderv1.HostPriorityList{}
	if args.NodeNames != nil {
		for _, name := range *args.NodeNames {
			result = append(result, extenderv1.HostPriority{Host: name, Score: fits[name]})
		}
	} else if args.Nodes != nil {
		for _, node := range args.Nodes.Items {
			result = append(result, extenderv1.HostPriority{Host: node.Name, Score: fits[node.Name]})
		}
	}
	answer(w, result)
}

func answer(w http.ResponseWriter, result any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(result); err != nil {
		log.Print(err)
	}
}
