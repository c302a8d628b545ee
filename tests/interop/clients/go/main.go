// The main job by golang.org/x/oauth2, checked by go-jose: `go run . WORLD`.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

const (
	exchangeGrant = "urn:ietf:params:oauth:grant-type:token-exchange"
	accessToken   = "urn:ietf:params:oauth:token-type:access_token"
)

type party struct {
	ClientID string `json:"client_id"`
	Secret   string `json:"secret"`
	URI      string `json:"uri"`
}

type world struct {
	Issuer   string `json:"issuer"`
	Sessions map[string]struct {
		AccessToken string `json:"access_token"`
	} `json:"sessions"`
	Agents    map[string]party `json:"agents"`
	Resources map[string]party `json:"resources"`
}

type actor struct {
	Sub string `json:"sub"`
	Act *actor `json:"act"`
}

type taskClaims struct {
	jwt.Claims
	Tenant string `json:"tenant"`
	Scope  string `json:"scope"`
	Act    actor  `json:"act"`
	TaskID string `json:"task_id"`
}

type suite struct {
	world
	tokenURL string
	keys     jose.JSONWebKeySet
	failed   bool
}

func main() {
	s, err := connect(os.Args[1])
	if err != nil {
		fmt.Printf("not ok - x/oauth2: the metadata and keys can be read\n# %v\n", err)
		os.Exit(1)
	}
	orders, tickets := s.Resources["orders"].URI, s.Resources["tickets"].URI
	var whole, narrow string

	s.check("a session token becomes an exchange-only token", func() (err error) {
		whole, err = s.exchange("planner", s.Sessions["alice"].AccessToken, "audience", s.Issuer, "scope", "orders:read refunds:write")
		if err != nil {
			return err
		}
		_, err = s.verify(whole, s.Issuer, "acme", "refunds:write", "refund-planner")
		return err
	})
	s.check("a child is narrower and of the same task", func() (err error) {
		narrow, err = s.exchange("planner", whole, "resource", orders, "scope", "orders:read")
		if err != nil {
			return err
		}
		child, err := s.verify(narrow, orders, "acme", "orders:read", "refund-planner")
		if err != nil {
			return err
		}
		parent, err := s.verify(whole, s.Issuer, "acme", "orders:read", "refund-planner")
		if err == nil && (child.TaskID != parent.TaskID || child.Expiry.Time().After(parent.Expiry.Time())) {
			return errors.New("another task, or a longer life")
		}
		return err
	})
	s.check("asking for more than the parent holds is invalid_scope", func() error {
		return s.refused("invalid_scope", "planner", narrow, "resource", orders, "scope", "refunds:write")
	})
	s.check("a hand-over nests the chain", func() error {
		pass, err := s.exchange("planner", whole, "audience", s.Issuer, "scope", "orders:read", "delegate_to", "orders-worker")
		if err != nil {
			return err
		}
		handed, err := s.exchange("worker", pass, "resource", orders)
		if err != nil {
			return err
		}
		claims, err := s.verify(handed, orders, "acme", "orders:read", "orders-worker")
		if err == nil && (claims.Act.Act == nil || claims.Act.Act.Sub != "refund-planner") {
			return errors.New("the first actor is not in the chain")
		}
		if _, nested := s.verify(handed, orders, "acme", "orders:read", "refund-planner"); nested == nil {
			return errors.New("a nested actor was accepted")
		}
		return err
	})
	s.check("the verifier refuses another tenant, audience or scope", func() error {
		for _, bent := range [][3]string{{orders, "globex", "orders:read"}, {tickets, "acme", "orders:read"}, {orders, "acme", "refunds:write"}} {
			if _, err := s.verify(narrow, bent[0], bent[1], bent[2], "refund-planner"); err == nil {
				return fmt.Errorf("accepted for %v", bent)
			}
		}
		return nil
	})
	if s.failed {
		os.Exit(1)
	}
}

func connect(path string) (*suite, error) {
	s := &suite{}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &s.world); err != nil {
		return nil, err
	}
	var metadata struct {
		Issuer   string `json:"issuer"`
		TokenURL string `json:"token_endpoint"`
		JwksURI  string `json:"jwks_uri"`
	}
	if err := get(s.Issuer+"/.well-known/oauth-authorization-server", &metadata); err != nil {
		return nil, err
	}
	if metadata.Issuer != s.Issuer {
		return nil, errors.New("the metadata is of another issuer")
	}
	s.tokenURL = metadata.TokenURL
	return s, get(metadata.JwksURI, &s.keys)
}

func get(from string, into any) error {
	response, err := (&http.Client{Timeout: 5 * time.Second}).Get(from)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return json.NewDecoder(response.Body).Decode(into)
}

// exchange runs the grant through clientcredentials, which lets `grant_type` and further parameters be given.
func (s *suite) exchange(agent, subject string, asked ...string) (string, error) {
	form := url.Values{"grant_type": {exchangeGrant}, "subject_token": {subject}, "subject_token_type": {accessToken}}
	for pair := range slices.Chunk(asked, 2) {
		form.Set(pair[0], pair[1])
	}
	config := clientcredentials.Config{
		ClientID: s.Agents[agent].ClientID, ClientSecret: s.Agents[agent].Secret,
		TokenURL: s.tokenURL, EndpointParams: form, AuthStyle: oauth2.AuthStyleInHeader,
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	token, err := config.Token(ctx)
	if err != nil {
		return "", err
	}
	if kind := token.Extra("issued_token_type"); kind != accessToken || token.RefreshToken != "" {
		return "", fmt.Errorf("unexpected answer: issued_token_type %v", kind)
	}
	return token.AccessToken, nil
}

func (s *suite) refused(code, agent, subject string, asked ...string) error {
	_, err := s.exchange(agent, subject, asked...)
	var refusal *oauth2.RetrieveError
	if !errors.As(err, &refusal) || refusal.ErrorCode != code {
		return fmt.Errorf("expected %s, got %v", code, err)
	}
	return nil
}

// verify checks a token as a service would; only the outermost actor counts.
func (s *suite) verify(token, audience, tenant, scope, actor string) (*taskClaims, error) {
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return nil, err
	}
	if typ := parsed.Headers[0].ExtraHeaders[jose.HeaderType]; typ != "at+jwt" {
		return nil, fmt.Errorf("typ is %v", typ)
	}
	var claims taskClaims
	if err := parsed.Claims(s.keys, &claims); err != nil {
		return nil, err
	}
	if claims.Expiry == nil || len(claims.Audience) != 1 {
		return nil, errors.New("no exp, or not one audience")
	}
	expected := jwt.Expected{Issuer: s.Issuer, AnyAudience: jwt.Audience{audience}, Time: time.Now()}
	if err := claims.ValidateWithLeeway(expected, 2*time.Second); err != nil {
		return nil, err
	}
	if claims.Tenant != tenant || !slices.Contains(strings.Fields(claims.Scope), scope) || claims.Act.Sub != actor {
		return nil, errors.New("not this tenant, scope or actor")
	}
	return &claims, nil
}

func (s *suite) check(name string, test func() error) {
	if err := test(); err != nil {
		s.failed = true
		fmt.Printf("not ok - x/oauth2: %s\n# %v\n", name, err)
		return
	}
	fmt.Printf("ok - x/oauth2: %s\n", name)
}
