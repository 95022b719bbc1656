// Command shipping says what it costs to send something to a city, in the customer's currency.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var kilometres = map[string]float64{
	"berlin": 0, "oslo": 840, "lisbon": 2310, "nairobi": 6370, "tokyo": 8920,
}

type hop struct {
	Service string `json:"service"`
	Runtime string `json:"runtime"`
	Host    string `json:"host"`
}

type rate struct {
	Rate  float64 `json:"rate"`
	Trace []hop   `json:"trace"`
	Error string  `json:"error"`
}

type shipping struct {
	Cents    int64   `json:"cents"`
	Currency string  `json:"currency"`
	Rate     float64 `json:"rate"`
	Trace    []hop   `json:"trace"`
}

var client = http.Client{Timeout: 3 * time.Second}

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

// askRates gives the rate, or the status and the reason to answer with.
func askRates(ctx context.Context, currency string) (rate, int, error) {
	at := env("RATES_URL", "http://rates:8080") + "/rate?currency=" + url.QueryEscape(currency)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return rate{}, http.StatusInternalServerError, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return rate{}, http.StatusBadGateway, fmt.Errorf("rates: %w", err)
	}
	defer answer.Body.Close()
	var found rate
	if err := json.NewDecoder(io.LimitReader(answer.Body, 1<<16)).Decode(&found); err != nil {
		return rate{}, http.StatusBadGateway, fmt.Errorf("rates: %w", err)
	}
	switch answer.StatusCode {
	case http.StatusOK:
		return found, http.StatusOK, nil
	case http.StatusBadRequest:
		return rate{}, http.StatusBadRequest, errors.New("rates: " + found.Error)
	default:
		return rate{}, http.StatusBadGateway, errors.New("rates: " + found.Error)
	}
}

func quote(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	far, known := kilometres[strings.ToLower(query.Get("city"))]
	if !known {
		refuse(w, http.StatusBadRequest, fmt.Errorf("nothing is sent to %q", query.Get("city")))
		return
	}
	kilograms, err := strconv.ParseFloat(query.Get("kilograms"), 64)
	if err != nil || !(kilograms > 0 && kilograms <= 1000) {
		refuse(w, http.StatusBadRequest, errors.New("kilograms must be above 0 and at most 1000"))
		return
	}
	found, status, err := askRates(r.Context(), query.Get("currency"))
	if err != nil {
		refuse(w, status, err)
		return
	}
	host, _ := os.Hostname() // Only for the trace; empty is fine.
	me := hop{"shipping", strings.Replace(runtime.Version(), "go", "go ", 1), host}
	reply(w, http.StatusOK, shipping{
		Cents:    int64(math.Round((390 + far*0.2*math.Sqrt(kilograms)) * found.Rate)),
		Currency: query.Get("currency"),
		Rate:     found.Rate,
		Trace:    append([]hop{me}, found.Trace...),
	})
}

func refuse(w http.ResponseWriter, status int, err error) {
	log.Printf("%d %v", status, err)
	reply(w, status, map[string]string{"error": err.Error()})
}

func reply(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(value); err != nil {
		log.Print(err)
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	http.HandleFunc("GET /shipping", quote)
	http.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]bool{"ok": true})
	})
	port := env("PORT", "8080")
	server := http.Server{Addr: "0.0.0.0:" + port, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	log.Print("shipping listens on ", port)
	select {
	case err := <-ended:
		log.Fatal(err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		log.Fatal(err)
	}
}
