//! Clients whose platform vouches for them: Kubernetes service accounts and SPIFFE workloads (STANDARDS CA-06, CA-07; T25,
//! T33), as client assertion and as `actor_token`.

use serde_json::{Value, json};

use crate::support::idp::{bend, claims};
use crate::support::keyed::{ASSERTION_TYPE, JWT_BEARER, MANY_FAILURES};
use crate::support::server::{
    ACCESS_TOKEN, Answer, ID_TOKEN, JWT, ORDERS, Server, TOKEN_EXCHANGE, encode, secret, sha256,
};
use crate::support::signer::Signer;

const FORM: &str = "application/x-www-form-urlencoded";
const JWT_SPIFFE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";
const CLUSTER: &str = "https://cluster.acme.example";
const DOMAIN: &str = "spiffe://acme.example";
const ACCOUNT: &str = "system:serviceaccount:agents:support-bot";
const SVID: &str = "spiffe://acme.example/agents/support-bot";
const ROOT: [(&str, &str); 2] = [("task_type", "refund_order"), ("resource", ORDERS)];

/// A server that knows one cluster and one trust domain; their workloads are `support-agent`, and `orders-api` is another.
struct Platform {
    server: Server,
    cluster: Signer,
    domain: Signer,
}

impl Platform {
    async fn start() -> Self {
        let platform = Self {
            server: Server::start_with(MANY_FAILURES).await,
            cluster: Signer::new("cluster"),
            domain: Signer::new("domain"),
        };
        platform.server.apply(&platform.objects()).await.unwrap();
        platform
    }

    fn objects(&self) -> String {
        let bundle = json!({"keys": [
            bend(self.domain.jwk(), json!({"use": "jwt-svid"})),
            bend(Signer::new("x509").jwk(), json!({"use": "x509-svid", "x5c": ["AAAA"]})),
        ]});
        let issuers = format!(
            "kind: WorkloadIssuer\ntenant: system\nname: cluster\nspec: {{type: kubernetes, issuer: '{CLUSTER}', jwks: {}}}\n---\n\
             kind: WorkloadIssuer\ntenant: acme\nname: domain\nspec: {{type: spiffe, issuer: '{DOMAIN}', jwks: {bundle}}}\n---\n",
            json!({"keys": [self.cluster.jwk()]}),
        );
        let mapped = |objects: String, client: &str, workloads: Value| {
            let from = format!("auth: {{secret_sha256: [{}]}}", sha256(&secret(client)));
            let to = format!("{}, workload: {workloads}}}", from.trim_end_matches('}'));
            assert!(objects.contains(&from));
            objects.replace(&from, &to)
        };
        let agent = json!([{"issuer": CLUSTER, "subject": ACCOUNT, "uid": "sa-1"}, {"issuer": DOMAIN, "subject": SVID}]);
        let resource = json!([{"issuer": CLUSTER, "subject": "system:serviceaccount:shop:orders"}]);
        let objects = mapped(self.server.objects(), "support-agent", agent);
        issuers + &mapped(objects, "orders-api", resource)
    }

    fn account(&self) -> Value {
        let now = self.server.now();
        json!({
            "iss": CLUSTER, "sub": ACCOUNT, "aud": [self.server.issuer], "iat": now - 600, "nbf": now - 600,
            "exp": now + 3000, "jti": "always-the-same", "kubernetes.io": {
                "namespace": "agents", "pod": {"name": "support-bot-0", "uid": "pod-1"},
                "serviceaccount": {"name": "support-bot", "uid": "sa-1"},
            },
        })
    }

    fn svid(&self) -> Value {
        let now = self.server.now();
        json!({"sub": SVID, "aud": self.server.issuer, "exp": now + 300, "iat": now})
    }

    /// As Kubernetes signs: without `typ`.
    fn of_cluster(&self, with: Value) -> String {
        self.cluster.sign(json!({"alg": "ES256", "kid": "cluster"}), bend(self.account(), with))
    }

    fn of_domain(&self, with: Value) -> String {
        self.domain.sign(json!({"alg": "ES256", "kid": "domain", "typ": "JWT"}), bend(self.svid(), with))
    }

    async fn post(&self, path: &str, kind: &str, assertion: &str, with: &[(&str, &str)]) -> Answer {
        let form = [&[("client_assertion", assertion), (ASSERTION_TYPE, kind)][..], with].concat();
        self.server.send(path, &[], encode(&form), FORM).await
    }

    /// A good root exchange, authenticated by this.
    async fn exchange(&self, kind: &str, assertion: &str) -> Answer {
        let session = self.server.session(json!({}));
        let subject = [
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", session.as_str()),
            ("subject_token_type", ACCESS_TOKEN),
        ];
        self.post("/oauth/token", kind, assertion, &[&subject[..], &ROOT].concat()).await
    }

    /// A good root exchange by an SVID that is shown in the second in which it was made.
    async fn at_once(&self, made: impl Fn(i64) -> String) -> Answer {
        for _ in 0..20 {
            let now = self.server.now();
            let answer = self.exchange(JWT_SPIFFE, &made(now)).await;
            if self.server.now() == now {
                return answer;
            }
        }
        panic!("no exchange was over within its second");
    }

    /// A good root exchange by secret, with this as actor token.
    async fn acting(&self, agent: &str, actor: &str) -> Answer {
        let form = [&ROOT[..], &[("actor_token", actor), ("actor_token_type", JWT)]].concat();
        self.server.exchange(agent, &self.server.session(json!({})), &form).await
    }
}

#[tokio::test]
async fn ca_07_a_projected_token_authenticates_its_client_until_it_is_replaced() {
    let platform = Platform::start().await;
    let token = platform.of_cluster(json!({}));
    for _ in 0..3 {
        let root = platform.exchange(JWT_BEARER, &token).await.token();
        assert_eq!(claims(&root)["client_id"], "support-agent");
        assert_eq!(claims(&root)["act"].get("instance"), None, "who calls is not who acts for whom");
        for path in ["/oauth/introspect", "/task-types", "/oauth/revoke"] {
            let answer = platform.post(path, JWT_BEARER, &token, &[("token", &root)]).await;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
        }
    }
    let agreeing = platform.post("/task-types", JWT_BEARER, &token, &[("client_id", "support-agent")]).await;
    assert_eq!(agreeing.status, 200);
    let other = platform.post("/task-types", JWT_BEARER, &token, &[("client_id", "worker-agent")]).await;
    other.refused(400, "invalid_request", "malformed_request");
    let shop = json!({"sub": "system:serviceaccount:shop:orders", "kubernetes.io": null});
    let resource = platform.exchange(JWT_BEARER, &platform.of_cluster(shop)).await;
    resource.refused(400, "unauthorized_client", "client_is_no_agent");
}

#[tokio::test]
async fn ca_07_issuer_subject_uid_audience_and_age_are_exact() {
    let platform = Platform::start().await;
    let (now, own) = (platform.server.now(), platform.server.issuer.clone());
    let uid = |uid: Value| json!({"kubernetes.io": {"serviceaccount": {"name": "support-bot", "uid": uid}}});
    for with in [
        json!({"sub": "system:serviceaccount:agents:support-bot-2"}),
        json!({"sub": "system:serviceaccount:agents:support-bo"}),
        json!({"sub": "system:serviceaccount:other:support-bot"}),
        uid(json!("sa-2")),
        uid(Value::Null),
        json!({"kubernetes.io": null}),
        json!({"iss": format!("{CLUSTER}/")}),
        json!({"iss": "https://other-cluster.example"}),
        json!({"iss": "support-agent", "sub": "support-agent"}),
    ] {
        let answer = platform.exchange(JWT_BEARER, &platform.of_cluster(with.clone())).await;
        assert_eq!(answer.body["reason_code"], "client_authentication_failed", "{with}: {answer:?}");
    }
    for with in [
        json!({"aud": [own, "https://kubernetes.default.svc"]}),
        json!({"aud": format!("{own}/oauth/token")}),
        json!({"aud": []}),
        json!({"aud": null}),
        json!({"exp": now}),
        json!({"exp": null}),
        json!({"iat": now - 3601}),
        json!({"iat": null}),
        json!({"iat": now + 90}),
        json!({"nbf": now + 90}),
        json!({"sub": null}),
        json!({"cnf": {}}),
        json!({"events": {}}),
    ] {
        let answer = platform.exchange(JWT_BEARER, &platform.of_cluster(with.clone())).await;
        assert_eq!(answer.body["reason_code"], "client_assertion_invalid", "{with}: {answer:?}");
        answer.refused(401, "invalid_client", "client_assertion_invalid");
    }
    for typ in ["at+jwt", "actor+jwt", "client-authentication+jwt", "dpop+jwt", "secevent+jwt", "logout+jwt"]
    {
        let header = json!({"alg": "ES256", "kid": "cluster", "typ": typ});
        let answer = platform.exchange(JWT_BEARER, &platform.cluster.sign(header, platform.account())).await;
        answer.refused(401, "invalid_client", "client_assertion_invalid");
    }
    platform.exchange(JWT_BEARER, &platform.of_cluster(json!({"iat": now - 3500}))).await.token();
    platform.server.clock.shift(3001);
    let old = json!({"exp": now + 3000});
    platform.exchange(JWT_BEARER, &platform.of_cluster(old)).await.refused(
        401,
        "invalid_client",
        "client_assertion_invalid",
    );
}

#[tokio::test]
async fn ca_06_a_jwt_svid_authenticates_the_workload_that_its_trust_domain_names() {
    let platform = Platform::start().await;
    let svid = platform.of_domain(json!({}));
    for _ in 0..2 {
        assert_eq!(claims(&platform.exchange(JWT_SPIFFE, &svid).await.token())["client_id"], "support-agent");
    }
    platform
        .exchange(JWT_SPIFFE, &platform.of_domain(json!({"iat": null, "iss": "https://spire.acme.example"})))
        .await
        .token();
    for with in [
        json!({"sub": "spiffe://acme.example/agents/support-bot/"}),
        json!({"sub": "spiffe://acme.example/agents"}),
        json!({"sub": "spiffe://acme.example"}),
        json!({"sub": "spiffe://other.example/agents/support-bot"}),
        json!({"sub": "spiffe://acme.example.evil/agents/support-bot"}),
        json!({"sub": "spiffe://ACME.example/agents/support-bot"}),
        json!({"sub": ACCOUNT}),
        json!({"sub": null}),
    ] {
        let answer = platform.exchange(JWT_SPIFFE, &platform.of_domain(with.clone())).await;
        assert_eq!(answer.body["reason_code"], "client_authentication_failed", "{with}: {answer:?}");
    }
    let (now, own) = (platform.server.now(), platform.server.issuer.clone());
    for with in [
        json!({"aud": [own, "x"]}),
        json!({"aud": null}),
        json!({"exp": null}),
        json!({"exp": now}),
        json!({"iat": now - 3601}),
    ] {
        let answer = platform.exchange(JWT_SPIFFE, &platform.of_domain(with.clone())).await;
        answer.refused(401, "invalid_client", "client_assertion_invalid");
    }
    let ending = async |seconds: i64| {
        let claims = |now: i64| json!({"exp": now + seconds, "iat": null});
        platform.at_once(|now| platform.of_domain(claims(now))).await
    };
    ending(3601).await.refused(401, "invalid_client", "client_assertion_invalid");
    ending(3600).await.token();
    // What one platform has signed is not what the other's type declares, nor does its key sign for the other.
    for (kind, token) in [
        (JWT_BEARER, svid.clone()),
        (JWT_SPIFFE, platform.of_cluster(json!({}))),
        (JWT_SPIFFE, platform.cluster.sign(json!({"alg": "ES256", "kid": "cluster"}), platform.svid())),
        (JWT_SPIFFE, platform.cluster.sign(json!({"alg": "ES256", "kid": "domain"}), platform.svid())),
        (JWT_BEARER, platform.domain.sign(json!({"alg": "ES256", "kid": "cluster"}), platform.account())),
        (JWT_SPIFFE, platform.server.idp.sign("JWT", &platform.svid())),
    ] {
        let answer = platform.exchange(kind, &token).await;
        answer.refused(401, "invalid_client", "client_authentication_failed");
    }
}

#[tokio::test]
async fn ca_06_ca_07_the_token_of_a_workload_proves_an_instance_of_its_own_agent() {
    let platform = Platform::start().await;
    let pod = platform.acting("support-agent", &platform.of_cluster(json!({}))).await.token();
    assert_eq!(claims(&pod)["act"]["instance"], "pod-1");
    let svid = platform.acting("support-agent", &platform.of_domain(json!({}))).await.token();
    assert_eq!(claims(&svid)["act"]["instance"], SVID);
    let own = platform.acting("support-agent", &platform.server.actor_token("pod-7")).await.token();
    assert_eq!(claims(&own)["act"]["instance"], "pod-7", "its own keys still prove");
    let own = platform.acting("support-agent", &platform.server.actor_token(SVID)).await.token();
    assert_eq!(claims(&own)["act"]["instance"], SVID, "also an instance that is called like a workload");
    let unbound = json!({"kubernetes.io": {"serviceaccount": {"name": "support-bot", "uid": "sa-1"}}});
    let unbound = platform.acting("support-agent", &platform.of_cluster(unbound)).await.token();
    assert_eq!(claims(&unbound)["act"]["instance"], ACCOUNT);
    let (now, issuer) = (platform.server.now(), platform.server.issuer.clone());
    for (with, reason) in [
        (json!({"sub": "system:serviceaccount:shop:orders"}), "actor_token_other_agent"),
        (json!({"kubernetes.io": {"serviceaccount": {"uid": "sa-2"}}}), "actor_token_other_agent"),
        (json!({"aud": [issuer, "x"]}), "actor_token_audience"),
        (json!({"aud": "https://kubernetes.default.svc"}), "actor_token_audience"),
        (json!({"exp": now}), "actor_token_expired"),
        (json!({"iat": now - 3601}), "actor_token_too_long"),
        (json!({"iat": null}), "actor_token_malformed"),
        (json!({"nbf": now + 90}), "actor_token_not_yet_valid"),
        (json!({"events": {}}), "actor_token_typ"),
        (json!({"iss": "https://other.example"}), "actor_token_typ"),
    ] {
        let answer = platform.acting("support-agent", &platform.of_cluster(with.clone())).await;
        assert_eq!(answer.body["reason_code"], reason, "{with}: {answer:?}");
        answer.refused(400, "invalid_request", reason);
    }
    let forged = platform.domain.sign(json!({"alg": "ES256", "kid": "cluster"}), platform.account());
    platform.acting("support-agent", &forged).await.refused(400, "invalid_request", "actor_token_signature");
}

#[tokio::test]
async fn t25_t12_an_expired_or_foreign_workload_token_refuses_although_subject_and_client_are_fresh() {
    let platform = Platform::start().await;
    let token = platform.of_cluster(json!({}));
    let root = platform.acting("support-agent", &token).await.token();
    platform.server.clock.shift(3000);
    let answer = platform.acting("support-agent", &token).await;
    answer.refused(400, "invalid_request", "actor_token_expired");
    assert_eq!(answer.body["retry"], "later");
    drop(root);
    // worker-agent has no workload: that of support-agent proves nothing for it (T12).
    let wide = platform.server.wide_root().await;
    let hand_over = platform.server.hand_over(&wide, "worker-agent").await;
    let spliced = platform.of_cluster(json!({"exp": platform.server.now() + 60}));
    let form = [("actor_token", spliced.as_str()), ("actor_token_type", JWT)];
    let answer = platform.server.exchange("worker-agent", &hand_over, &form).await;
    answer.refused(400, "invalid_request", "actor_token_typ");
}

#[tokio::test]
async fn t33_a_platform_yields_no_principal_and_an_identity_provider_no_workload() {
    let platform = Platform::start().await;
    let server = &platform.server;
    let session = json!({"org_id": "acme", "groups": ["support"], "azp": "console", "client_id": "console"});
    for token in [
        platform.of_cluster(json!({})),
        platform.of_cluster(session.clone()),
        platform.cluster.sign(
            json!({"alg": "ES256", "kid": "cluster", "typ": "at+jwt"}),
            bend(platform.account(), session.clone()),
        ),
        platform.of_domain(json!({})),
        platform.of_domain(bend(session, json!({"iss": DOMAIN}))),
    ] {
        for declared in [ACCESS_TOKEN, ID_TOKEN, JWT] {
            let form = [&ROOT[..], &[("subject_token_type", declared)]].concat();
            let answer = server.exchange("support-agent", &token, &form).await;
            answer.refused(400, "invalid_request", "subject_token_unknown_issuer");
        }
        assert_eq!(server.introspect("support-agent", &token).await.body, json!({"active": false}));
    }
    let idp = &server.idp;
    for claims in
        [platform.account(), bend(platform.account(), json!({"iss": idp.issuer})), server.session_claims()]
    {
        for kind in [JWT_BEARER, JWT_SPIFFE] {
            for typ in ["JWT", "at+jwt", "client-authentication+jwt"] {
                let answer = platform.exchange(kind, &idp.sign(typ, &claims)).await;
                answer.refused(401, "invalid_client", "client_authentication_failed");
            }
        }
    }
    let root = server.root().await;
    for token in [root.clone(), server.actor_token("pod-1"), server.session(json!({}))] {
        for kind in [JWT_BEARER, JWT_SPIFFE] {
            platform.exchange(kind, &token).await.refused(
                401,
                "invalid_client",
                "client_authentication_failed",
            );
        }
    }
}

#[tokio::test]
async fn t33_t42_a_mapping_that_could_be_somebody_elses_is_not_applied() {
    let platform = Platform::start().await;
    let objects = platform.objects();
    let idp = &platform.server.idp.issuer;
    for (from, to, told) in [
        (format!("issuer: '{CLUSTER}'"), format!("issuer: '{idp}'"), "a trusted issuer has the same"),
        (format!("issuer: '{CLUSTER}'"), format!("issuer: '{}'", platform.server.issuer), "own issuer"),
        (
            "tenant: acme\nname: domain".to_owned(),
            "tenant: globex\nname: domain".to_owned(),
            "no workload issuer",
        ),
        ("system:serviceaccount:shop:orders".to_owned(), ACCOUNT.to_owned(), "a client already"),
        (
            "system:serviceaccount:shop:orders".to_owned(),
            "system:serviceaccount:shop:*".to_owned(),
            "no patterns",
        ),
        (SVID.to_owned(), format!("{DOMAIN}/"), "no patterns"),
        (SVID.to_owned(), "spiffe://other.example/x".to_owned(), "no patterns"),
        ("type: spiffe".to_owned(), "type: spiffe, max_age: 0".to_owned(), "1 to 86400"),
        ("\"use\":\"jwt-svid\"".to_owned(), "\"use\":\"x509-svid\"".to_owned(), "no key that verifies"),
        ("client_id: stranger-agent".to_owned(), format!("client_id: {CLUSTER}"), "same name as this client"),
    ] {
        assert!(objects.contains(&from), "{from}");
        let fault = platform.server.apply(&objects.replace(&from, &to)).await.unwrap_err();
        assert!(format!("{fault:?}").contains(told), "{to}: {fault:?}");
    }
}
