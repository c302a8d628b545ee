//! The attacks of STANDARDS §14 that this surface can meet, each by its number. T01, T03 and T19 are in `wire`, T12, T15,
//! T25 and T41 in `act`, T04, T18 and T21 also in `tokens` and `jwt`, T09 in `details`.

use serde_json::{Value, json};

use taskgrant::configuration::apply::ApplyFault;

use crate::support::idp::{Idp, bend, claims, compact};
use crate::support::server::{ACCESS_TOKEN, Answer, ID_TOKEN, JWT, MAIL, ORDERS, Server, sha256};

const ROOT: [(&str, &str); 2] = [("task_type", "refund_order"), ("resource", ORDERS)];

async fn root_with(server: &Server, session: Value) -> Answer {
    server.exchange("support-agent", &server.session(session), &ROOT).await
}

#[tokio::test]
async fn t01_an_anonymous_caller_gets_nothing_whatever_token_it_stole() {
    let server = Server::start().await;
    let before = server.decisions().await;
    let body = crate::support::server::encode(&[
        ("grant_type", crate::support::server::TOKEN_EXCHANGE),
        ("subject_token", &server.session(json!({}))),
        ("subject_token_type", ACCESS_TOKEN),
    ]);
    let answer = server.send("/oauth/token", &[], body, "application/x-www-form-urlencoded").await;
    answer.refused(401, "invalid_client", "client_authentication_failed");
    assert_eq!(server.decisions().await, before, "recorded in bulk, once a minute");
}

#[tokio::test]
async fn t02_a_stolen_session_is_refused_to_another_legitimate_agent() {
    let server = Server::start().await;
    let session = server.session(json!({}));
    for agent in ["worker-agent", "stranger-agent"] {
        let answer = server.exchange(agent, &session, &ROOT).await;
        answer.refused(400, "invalid_request", "subject_token_not_yours");
    }
    for with in [
        json!({"azp": "other-app", "client_id": "other-app"}),
        json!({"azp": null, "client_id": null}),
        json!({"azp": "support-agent", "client_id": "support-agent"}),
    ] {
        root_with(&server, with).await.refused(400, "invalid_request", "subject_token_not_yours");
    }
    let two = root_with(&server, json!({"azp": "other-app"})).await;
    two.refused(400, "invalid_request", "subject_token_client");
}

#[tokio::test]
async fn t02_l12_a_refused_stolen_token_leaves_a_trace_of_whose_it_was() {
    let server = Server::start().await;
    let session = server.session(json!({}));
    let stolen = server.exchange("worker-agent", &session, &ROOT).await;
    let recorded = server.decision(stolen.refused(400, "invalid_request", "subject_token_not_yours")).await;
    assert_eq!(recorded.leaf["tenant"], "acme");
    let record = &recorded.record;
    assert_eq!(record["principal"], json!({"iss": server.idp.issuer, "sub": "alice"}));
    assert_eq!(record["session_sha256"], sha256(session.rsplit_once('.').unwrap().0));
    assert!(!recorded.text().contains("eyJ"), "a token is in the log");
    let root = server.root().await;
    for (agent, code) in
        [("stranger-agent", "delegation_not_allowed"), ("globex-agent", "agent_not_of_tenant")]
    {
        let stolen = server.exchange(agent, &root, &[]).await;
        let recorded = server.decision(stolen.refused(400, "invalid_request", code)).await;
        assert_eq!((&recorded.leaf["tenant"], &recorded.record["actor"]), (&json!("acme"), &json!(agent)));
        let record = &recorded.record;
        assert_eq!(record["principal"]["sub"], "alice");
        assert_eq!(
            (&record["parent_jti"], &record["task_id"]),
            (&claims(&root)["jti"], &claims(&root)["task_id"])
        );
    }
    let forged = server.exchange("worker-agent", &format!("{}AA", &root[..root.len() - 2]), &[]).await;
    let recorded = server.decision(&forged).await;
    assert!(recorded.record.get("principal").is_none(), "what nobody signed is not told: {recorded:?}");
}

#[tokio::test]
async fn t02_t12_a_stolen_task_token_is_refused_to_an_agent_that_no_edge_leads_to() {
    let server = Server::start().await;
    let root = server.root().await;
    let stranger = server.exchange("stranger-agent", &root, &[]).await;
    stranger.refused(400, "invalid_request", "delegation_not_allowed");
    let foreign = server.exchange("globex-agent", &root, &[]).await;
    foreign.refused(400, "invalid_request", "agent_not_of_tenant");
}

#[tokio::test]
async fn t04_tokens_issued_to_another_relying_party_are_refused() {
    let server = Server::start().await;
    for (typ, declared, with) in [
        ("at+jwt", ACCESS_TOKEN, json!({"aud": "https://crm.example"})),
        ("at+jwt", ACCESS_TOKEN, json!({"aud": "console"})),
        ("JWT", ID_TOKEN, json!({"aud": "other-app", "azp": "other-app", "client_id": null})),
        ("JWT", ID_TOKEN, json!({"aud": ["other-app", "x"], "azp": "console", "client_id": null})),
    ] {
        let token = server.idp.sign(typ, &bend(server.session_claims(), with));
        let form = [&ROOT[..], &[("subject_token_type", declared)]].concat();
        let answer = server.exchange("support-agent", &token, &form).await;
        answer.refused(400, "invalid_request", "subject_token_audience");
    }
    let several = json!({"aud": ["console", "other-app"], "azp": null, "client_id": null});
    let several = server.idp.sign("JWT", &bend(server.session_claims(), several));
    let form = [&ROOT[..], &[("subject_token_type", ID_TOKEN)]].concat();
    let answer = server.exchange("support-agent", &several, &form).await;
    answer.refused(400, "invalid_request", "subject_token_client");
}

#[tokio::test]
async fn t05_no_scope_beyond_any_ceiling_is_granted() {
    let server = Server::start().await;
    let ask = async |session: Value, scope: &str, task_type: &str| {
        let form = [("task_type", task_type), ("resource", ORDERS), ("scope", scope)];
        server.exchange("support-agent", &server.session(session), &form).await
    };
    for (session, scope, task_type, ceiling) in [
        (json!({"groups": ["analysts"]}), "refunds:write", "refund_order", "entitlement"),
        (json!({}), "refunds:write", "export_reports", "task_type"),
        (json!({}), "admin", "refund_order", "task_type"),
        (
            json!({"scope": "admin refunds:write", "groups": ["analysts"]}),
            "refunds:write",
            "refund_order",
            "entitlement",
        ),
    ] {
        let answer = ask(session, scope, task_type).await;
        assert_eq!(answer.refused(400, "invalid_scope", "scope_exceeds_ceiling").body["ceiling"], ceiling);
    }
}

#[tokio::test]
async fn t06_a_session_without_scope_gives_what_entitlements_give_and_no_more() {
    let server = Server::start().await;
    assert_eq!(root_with(&server, json!({})).await.body["scope"], "orders:read");
    for groups in
        [Value::Null, json!([]), json!("supporters"), json!({"support": true}), json!([["support"]])]
    {
        let nobody = root_with(&server, json!({"groups": groups})).await;
        assert_eq!(
            (nobody.status, &nobody.body["ceiling"]),
            (400, &json!("entitlement")),
            "{groups}: {nobody:?}"
        );
    }
}

#[tokio::test]
async fn t07_a_target_beyond_task_type_or_parent_is_refused() {
    let server = Server::start().await;
    let session = server.session(json!({}));
    let at =
        async |subject: &str, form: &[(&str, &str)]| server.exchange("support-agent", subject, form).await;
    let mail = at(&session, &[("task_type", "export_reports"), ("resource", MAIL)]).await;
    mail.refused(400, "invalid_target", "target_exceeds_ceiling");
    for unknown in [
        "https://admin.acme.example",
        "https://orders.acme.example",
        "nonsense",
        "https://orders.acme.example/api/",
    ] {
        let answer = at(&session, &[("task_type", "refund_order"), ("audience", unknown)]).await;
        answer.refused(400, "invalid_target", "target_unknown");
    }
    for malformed in ["https://orders.acme.example/api#x", "/api", "orders", ""] {
        let form = [("task_type", "refund_order"), ("resource", malformed)];
        let answer = at(&session, &form).await;
        assert_eq!(answer.body["error"], "invalid_target", "{malformed}: {answer:?}");
    }
    let root = server.root().await;
    at(&root, &[("resource", MAIL)]).await.refused(400, "invalid_target", "target_exceeds_ceiling");
    let same = at(&root, &[("resource", "HTTPS://Orders.ACME.example/api")]).await;
    assert_eq!(claims(&same.token())["aud"], ORDERS, "scheme and host compare in lower case");
}

#[tokio::test]
async fn t08_what_a_child_leaves_out_is_the_parents_and_never_more() {
    let server = Server::start().await;
    let form = [&ROOT[..], &[("scope", "refunds:write")]].concat();
    let root = server.exchange("support-agent", &server.session(json!({})), &form).await.token();
    let child = claims(&server.exchange("support-agent", &root, &[]).await.token());
    assert_eq!((&child["scope"], &child["aud"]), (&json!("refunds:write"), &json!(ORDERS)));
    assert_eq!(child["authorization_details"], claims(&root)["authorization_details"]);
    let left_out = server.exchange("support-agent", &server.session(json!({})), &ROOT).await;
    assert_eq!(left_out.body["scope"], "orders:read", "the task type's default, not all of it");
}

#[tokio::test]
async fn t10_scopes_are_exact_ascii_tokens() {
    let server = Server::start().await;
    let session = server.session(json!({}));
    for scope in [
        "Orders:Read",
        "orders:*",
        "*",
        "orders:",
        "orders",
        "orders:read,refunds:write",
        "orders:read\u{200b}",
        "\u{43e}rders:read",
        "orders:read\trefunds:write",
        "\"orders:read\"",
        "orders:read  refunds:write",
        " orders:read",
        "orders:read orders:read",
    ] {
        let form = [&ROOT[..], &[("scope", scope)]].concat();
        let answer = server.exchange("support-agent", &session, &form).await;
        assert_eq!((answer.status, &answer.body["error"]), (400, &json!("invalid_scope")), "{scope:?}");
    }
    let swapped = [&ROOT[..], &[("scope", "refunds:write orders:read")]].concat();
    let swapped = server.exchange("support-agent", &session, &swapped).await;
    assert_eq!(swapped.body["scope"], "orders:read refunds:write", "a set, told in one order");
}

#[tokio::test]
async fn t11_no_exchange_lengthens_a_life() {
    let server = Server::start().await;
    let mut token = server.root().await;
    let end = claims(&token)["exp"].as_i64().unwrap();
    for _ in 0..5 {
        server.clock.shift(20);
        let form = [("requested_expires_in", "86400")];
        token = server.exchange("support-agent", &token, &form).await.token();
        assert_eq!(claims(&token)["exp"], end);
    }
    server.clock.shift(80);
    let dead = server.exchange("support-agent", &token, &[]).await;
    dead.refused(400, "invalid_request", "subject_token_expired");
}

#[tokio::test]
async fn t12_t13_a_hand_over_needs_an_edge_and_the_agent_itself() {
    let server = Server::start().await;
    let root = server.wide_root().await;
    let own = server.issuer.as_str();
    for accomplice in ["stranger-agent", "globex-agent", "nobody", "support-agent", "orders-api"] {
        let form = [("audience", own), ("delegate_to", accomplice), ("scope", "orders:read")];
        let answer = server.exchange("support-agent", &root, &form).await;
        assert_eq!((answer.status, &answer.body["error"]), (400, &json!("invalid_request")), "{accomplice}");
    }
    let hand_over = server.hand_over(&root, "worker-agent").await;
    for thief in ["worker-two", "support-agent", "stranger-agent", "globex-agent"] {
        let answer = server.exchange(thief, &hand_over, &[]).await;
        assert_eq!((answer.status, &answer.body["error"]), (400, &json!("invalid_request")), "{thief}");
    }
    let spliced = server.actor_keys.sign("actor+jwt", &server.actor_claims("worker-agent", "w")).unwrap();
    let form = [("actor_token", spliced.as_str()), ("actor_token_type", JWT)];
    let answer = server.exchange("support-agent", &root, &form).await;
    answer.refused(400, "invalid_request", "actor_token_other_agent");
    server.exchange("worker-agent", &hand_over, &[]).await.token();
}

#[tokio::test]
async fn t14_several_audiences_do_not_open_a_session_to_several_agents() {
    let server = Server::start().await;
    let aud = json!([server.issuer, "worker-agent", "stranger-agent"]);
    let session = server.session(json!({"aud": aud}));
    for agent in ["worker-agent", "stranger-agent"] {
        let answer = server.exchange(agent, &session, &ROOT).await;
        answer.refused(400, "invalid_request", "subject_token_not_yours");
    }
    let both = [&ROOT[..], &[("resource", MAIL)]].concat();
    let answer = server.exchange("support-agent", &session, &both).await;
    answer.refused(400, "invalid_target", "target_ambiguous");
}

#[tokio::test]
async fn t16_nothing_in_the_request_forges_the_chain() {
    let server = Server::start().await;
    let form = [
        &ROOT[..],
        &[
            ("act", "{\"sub\":\"ceo\"}"),
            ("actor", "ceo"),
            ("claimed", "{\"act\":{\"sub\":\"ceo\"},\"sub\":\"bob\",\"tenant\":\"globex\"}"),
            ("sub", "bob"),
            ("tenant", "globex"),
        ],
    ]
    .concat();
    let token = server.exchange("support-agent", &server.session(json!({})), &form).await.token();
    let claims = claims(&token);
    assert_eq!(claims["act"], json!({"sub": "support-agent", "iss": server.issuer}));
    assert_eq!((&claims["sub"], &claims["tenant"]), (&json!("alice"), &json!("acme")));
    assert!(claims.get("claimed").is_none());
}

#[tokio::test]
async fn t17_subject_and_actor_cannot_be_swapped() {
    let server = Server::start().await;
    let (session, actor) = (server.session(json!({})), server.actor_token("pod-1"));
    let form = [&ROOT[..], &[("actor_token", session.as_str()), ("actor_token_type", JWT)]].concat();
    let swapped = server.exchange("support-agent", &actor, &form).await;
    assert_eq!((swapped.status, &swapped.body["error"]), (400, &json!("invalid_request")));
    let user_as_actor = server.exchange("support-agent", &session, &form).await;
    user_as_actor.refused(400, "invalid_request", "actor_token_typ");
}

#[tokio::test]
async fn t21_an_actor_twice_in_a_chain_and_a_chain_beyond_the_depth_are_refused() {
    let server = Server::start().await;
    let root = server.wide_root().await;
    let hand_over = server.hand_over(&root, "worker-agent").await;
    let form = [("audience", server.issuer.as_str())];
    let workers = server.exchange("worker-agent", &hand_over, &form).await.token();
    let back = [("audience", server.issuer.as_str()), ("delegate_to", "support-agent")];
    let answer = server.exchange("worker-agent", &workers, &back).await;
    answer.refused(400, "invalid_request", "actor_repeated");
    let last = server.exchange("worker-two", &workers, &[("resource", ORDERS)]).await.token();
    assert_eq!(claims(&last)["depth_left"], 0);
    let own = json!({"sub": "support-agent", "iss": server.issuer});
    root_with(&server, json!({"act": own})).await.refused(400, "invalid_request", "subject_token_act");
    let three = json!({"sub": "a", "act": {"sub": "b", "act": {"sub": "c"}}});
    let deep = root_with(&server, json!({"act": three})).await;
    deep.refused(400, "invalid_request", "delegation_depth_exhausted");
}

#[tokio::test]
async fn t16_no_other_issuer_vouches_for_an_actor_of_ours() {
    let server = Server::start().await;
    for sub in ["worker-agent", "globex-agent", "nobody"] {
        let own = json!({"sub": sub, "iss": server.issuer});
        for act in [own.clone(), json!({"sub": "their-agent", "act": own})] {
            let answer = root_with(&server, json!({"act": act})).await;
            answer.refused(400, "invalid_request", "subject_token_act");
        }
    }
    let theirs = root_with(&server, json!({"act": {"sub": "worker-agent"}})).await.token();
    assert_eq!(claims(&theirs)["act"]["act"]["iss"], server.idp.issuer, "under their own name");
}

#[tokio::test]
async fn t21_a_token_too_large_to_be_read_back_is_not_issued() {
    let server = Server::start().await;
    let session = server.session(json!({}));
    let long = |count: usize| -> String {
        let path = |n: usize| format!("/{n}{}", "a".repeat(400));
        let one = |n| json!({"type": "tool_call", "tools": ["search_orders"], "amount": 1, "path": path(n)});
        Value::Array((0..count).map(one).collect()).to_string()
    };
    let ask = async |details: &str, with: &[(&str, &str)]| {
        let base = [("task_type", "refund_order"), ("resource", ORDERS), ("authorization_details", details)];
        server.exchange("support-agent", &session, &[&base[..], with].concat()).await
    };
    let fits = ask(&long(20), &[]).await.token();
    assert_eq!(server.introspect("orders-api", &fits).await.body["active"], true);
    for with in [&[][..], &[("dry_run", "true")]] {
        let answer = ask(&long(40), with).await;
        answer.refused(400, "invalid_request", "token_too_large");
        assert_eq!(answer.body["retry"], "narrower");
    }
}

/// Whoever got hold of our key could sign anything: what counts is what was issued.
#[tokio::test]
async fn l1_a_token_signed_by_our_key_with_claims_that_were_never_issued_is_worth_nothing() {
    let server = Server::start().await;
    let root = server.exchange("support-agent", &server.session(json!({})), &ROOT).await.token();
    assert_eq!(server.introspect("orders-api", &root).await.body["active"], true);
    let later = server.now() + 86_400;
    for wider in [
        json!({"scope": "orders:read refunds:write"}),
        json!({"exp": later, "task_exp": later}),
        json!({"depth_left": 9}),
        json!({"client_id": "worker-agent", "act": {"sub": "worker-agent", "iss": server.issuer}}),
        json!({"jti": "01a1fce0-eacf-7dd4-9705-52255b4c09d7"}),
    ] {
        let forged = server.own_keys().sign("at+jwt", &bend(claims(&root), wider.clone())).unwrap();
        assert_eq!(server.introspect("orders-api", &forged).await.body, json!({"active": false}), "{wider}");
        let holder = claims(&forged)["client_id"].as_str().unwrap().to_owned();
        for with in [&[][..], &[("dry_run", "true")]] {
            let answer = server.exchange(&holder, &forged, with).await;
            answer.refused(400, "invalid_request", "parent_unknown");
        }
    }
    let again = server.own_keys().sign("at+jwt", &claims(&root)).unwrap();
    server.exchange("support-agent", &again, &[]).await.token();
}

#[tokio::test]
async fn t33_unsigned_and_wrong_tenant_tokens_are_refused_for_subject_and_actor() {
    let server = Server::start().await;
    let none = json!({"alg": "none", "typ": "actor+jwt"});
    let actor = compact(&none, &server.actor_claims("support-agent", "pod-1"), "");
    let form = [&ROOT[..], &[("actor_token", actor.as_str()), ("actor_token_type", JWT)]].concat();
    let answer = server.exchange("support-agent", &server.session(json!({})), &form).await;
    answer.refused(400, "invalid_request", "actor_token_signature");
    let subject = compact(&json!({"alg": "none", "typ": "at+jwt"}), &server.session_claims(), "");
    let answer = server.exchange("support-agent", &subject, &ROOT).await;
    answer.refused(400, "invalid_request", "subject_token_invalid");
    for tenant in
        [json!("globex"), json!("system"), json!("nowhere"), json!(""), json!(["acme"]), Value::Null]
    {
        let answer = root_with(&server, json!({"org_id": tenant})).await;
        assert_eq!((answer.status, &answer.body["error"]), (400, &json!("invalid_request")), "{tenant}");
    }
}

#[tokio::test]
async fn t34_one_sub_at_two_issuers_is_two_principals() {
    let server = Server::start().await;
    let partner = Idp::start().await;
    let yaml = format!(
        "kind: TrustedIssuer\ntenant: acme\nname: partner\nspec:\n  issuer: {}\n  subject_prefix: 'partner:'\n  \
         accept: [{{type: access_token, audience: {}, typ: [at+jwt]}}]\n  any_agent: true\n  \
         entitlements: [{{when: {{claim: groups, contains: support}}, scopes: [orders:read]}}]\n",
        partner.issuer, server.issuer
    );
    server.apply(&yaml).await.unwrap();
    let theirs = partner.sign("at+jwt", &bend(server.session_claims(), json!({"iss": partner.issuer})));
    let theirs = claims(&server.exchange("support-agent", &theirs, &ROOT).await.token());
    let ours = claims(&root_with(&server, json!({})).await.token());
    assert_eq!((&ours["sub"], &theirs["sub"]), (&json!("alice"), &json!("partner:alice")));
    assert_eq!(theirs["sub_id"]["iss"], partner.issuer);
    let posing = root_with(&server, json!({"sub": "partner:alice"})).await;
    posing.refused(400, "invalid_request", "subject_token_subject");
    let mixed = partner.sign("at+jwt", &server.session_claims());
    let answer = server.exchange("support-agent", &mixed, &ROOT).await;
    answer.refused(400, "invalid_request", "subject_token_signature");
    let elsewhere = json!({"iss": partner.issuer, "org_id": "globex"});
    let elsewhere = partner.sign("at+jwt", &bend(server.session_claims(), elsewhere));
    let token = server.exchange("support-agent", &elsewhere, &ROOT).await.token();
    assert_eq!(claims(&token)["tenant"], "acme", "an issuer of a tenant yields that tenant only");
}

#[tokio::test]
async fn t34_a_subject_prefix_is_fixed_once_it_is_used() {
    let server = Server::start().await;
    let with_prefix = |prefix: &str| {
        server.objects().replacen(
            "  facts: [email]\n",
            &format!("  facts: [email]\n  subject_prefix: '{prefix}'\n"),
            1,
        )
    };
    server.apply(&with_prefix("a:")).await.unwrap();
    let token = root_with(&server, json!({})).await.token();
    assert_eq!(claims(&token)["sub"], "a:alice");
    let renamed = with_prefix("b:").replacen("\nname: idp\n", "\nname: idp-two\n", 1);
    for changed in [with_prefix("b:"), server.objects(), renamed] {
        let Err(ApplyFault::Documents(faults)) = server.apply(&changed).await else {
            panic!("applied: {changed}")
        };
        assert!(faults[0].message.contains("fixed once used"), "{faults:?}");
        assert_eq!(faults[0].path.as_deref(), Some("spec.subject_prefix"));
    }
    server.apply(&with_prefix("a:")).await.unwrap();
    assert_eq!(claims(&root_with(&server, json!({})).await.token())["sub"], "a:alice");
}

#[tokio::test]
async fn t42_a_fault_of_another_tenants_issuer_does_not_tell_its_objects_name() {
    let server = Server::start().await;
    let theirs = Idp::start().await;
    let down = "https://idp.nowhere.invalid";
    let issuer = |name: &str, iss: &str| {
        format!(
            "kind: TrustedIssuer\ntenant: acme\nname: {name}\nspec:\n  issuer: {iss}\n  subject_prefix: '{name}:'\n  \
             algorithms: [ES256]\n  accept: [{{type: access_token, audience: {}, typ: [at+jwt]}}]\n",
            server.issuer
        )
    };
    let yaml = format!("{}---\n{}", issuer("hush-hush", &theirs.issuer), issuer("hush-down", down));
    server.apply(&yaml).await.unwrap();
    let claims = |with: Value| bend(bend(server.session_claims(), json!({"iss": theirs.issuer})), with);
    let header = json!({"alg": "RS256", "typ": "at+jwt"});
    let attempts = [
        ("algorithm", compact(&header, &claims(json!({})), "AAAA")),
        ("typ", theirs.sign("other+jwt", &claims(json!({})))),
        ("audience", theirs.sign("at+jwt", &claims(json!({"aud": "https://elsewhere"})))),
        ("signature", server.idp.sign("at+jwt", &claims(json!({})))),
        ("issuer_unavailable", theirs.sign("at+jwt", &claims(json!({"iss": down})))),
    ];
    for (code, token) in attempts {
        let answer = server.exchange("globex-agent", &token, &ROOT).await;
        answer.refused(400, "invalid_request", &format!("subject_token_{code}"));
        assert!(!answer.text.contains("hush"), "{}", answer.text);
    }
}

#[tokio::test]
async fn t42_readiness_names_no_tenants_issuer_and_the_operator_sees_them_all() {
    let server = Server::start().await;
    let down = "https://idp.nowhere.invalid";
    let yaml = format!(
        "kind: TrustedIssuer\ntenant: globex\nname: hush-down\nspec:\n  issuer: {down}\n  subject_prefix: 'hush:'\n  \
         accept: [{{type: access_token, audience: {}, typ: [at+jwt]}}]\n",
        server.issuer
    );
    server.apply(&yaml).await.unwrap();
    root_with(&server, json!({})).await.token();
    let told = loop {
        let status = server.admin().await.status().await.unwrap().unwrap();
        let told = status.key_sets.into_iter().find(|set| set.issuer == down).unwrap();
        if told.last_error.is_some() {
            break told;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!((told.name.as_str(), told.ok), ("hush-down", false));
    let ready = server.get("/readyz", &[]).await;
    assert_eq!((ready.status, &ready.body["key_sets"]), (200, &json!({"usable": 1, "unusable": 1})));
    for hidden in ["hush", "nowhere", "idp", &server.idp.issuer, "error"] {
        assert!(!ready.text.contains(hidden), "{hidden}: {}", ready.text);
    }
}

#[tokio::test]
async fn t42_subject_agent_task_type_and_target_are_of_one_tenant() {
    let server = Server::start().await;
    let acme = server.session(json!({}));
    let globex = server.session(json!({"org_id": "globex"}));
    let mixed = server.exchange("globex-agent", &acme, &ROOT).await;
    mixed.refused(400, "invalid_request", "agent_not_of_tenant");
    let mixed = server.exchange("support-agent", &globex, &[("task_type", "globex_task")]).await;
    mixed.refused(400, "invalid_request", "agent_not_of_tenant");
    let task_type = server.exchange("support-agent", &acme, &[("task_type", "globex_task")]).await;
    let task_type = task_type.refused(400, "invalid_request", "task_type_unavailable");
    let nowhere = server.exchange("support-agent", &acme, &[("task_type", "no_such_type")]).await;
    let nowhere = nowhere.refused(400, "invalid_request", "task_type_unavailable");
    let told = |answer: &Answer, name: &str| {
        let mut body = answer.body.clone();
        body.as_object_mut().unwrap().remove("decision_id");
        body.to_string().replace(name, "NAME")
    };
    assert_eq!(
        told(task_type, "globex_task"),
        told(nowhere, "no_such_type"),
        "another tenant's type is no type"
    );
    assert_eq!(
        task_type.body["grantable"]["task_type"],
        json!(["close_account", "export_reports", "refund_order"])
    );
    for target in ["https://orders.globex.example", "globex-orders"] {
        let form = [("task_type", "refund_order"), ("audience", target)];
        let answer = server.exchange("support-agent", &acme, &form).await;
        answer.refused(400, "invalid_target", "target_unknown");
    }
    let other = server.exchange("globex-agent", &globex, &[("task_type", "globex_task")]).await.token();
    assert_eq!(claims(&other)["tenant"], "globex");
    let stolen = server.exchange("support-agent", &other, &[]).await;
    stolen.refused(400, "invalid_request", "agent_not_of_tenant");
    assert_eq!(server.introspect("orders-api", &other).await.body, json!({"active": false}));
    let refused = server.revoke("support-agent", &other).await;
    assert_eq!((refused.status, &refused.body["error"]), (400, &json!("invalid_request")));
    assert_eq!(server.introspect("globex-agent", &other).await.body["active"], true);
}
