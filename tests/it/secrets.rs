//! `taskgrant agent secret`: two secrets at once, and no apply that undoes them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use taskgrant::cli::agent::{Secret, SecretArgs, run};
use taskgrant::cli::apply::Deployment;
use taskgrant::cli::target::TargetArgs;
use taskgrant::clock::SystemClock;
use taskgrant::domain::proposal::TwoPersons;
use taskgrant::store::folder::Location;
use taskgrant::terminal::output::{Exit, Output};

use crate::support::server::{ACCESS_TOKEN, Answer, ORDERS, Server, TOKEN_EXCHANGE, encode, secret, sha256};

fn deployment(server: &Server) -> Deployment {
    let data = server.data.path().join("data");
    Deployment {
        admin_socket: data.join("admin.sock"),
        location: Location::Folder(data),
        own_issuer: server.issuer.clone(),
        two_persons: TwoPersons::default(),
        remote: None,
    }
}

fn args(client_id: &str) -> SecretArgs {
    SecretArgs { client_id: client_id.to_owned(), target: TargetArgs::default(), json: true }
}

async fn command(command: Secret, deployment: &Deployment) -> (Exit, Value) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let output = &mut Output { out: &mut out, err: &mut err };
    let exit = run(&command, deployment, Arc::new(SystemClock), output).await;
    (exit, serde_json::from_slice(&out).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&err))))
}

async fn add(deployment: &Deployment) -> (Exit, Value) {
    command(Secret::Add(args("support-agent")), deployment).await
}

async fn retire(deployment: &Deployment, id: Option<&str>) -> (Exit, Value) {
    command(Secret::Retire { args: args("support-agent"), id: id.map(str::to_owned) }, deployment).await
}

async fn exchange(server: &Server, secret: &str) -> Answer {
    let basic = format!("Basic {}", STANDARD.encode(format!("support-agent:{secret}")));
    let session = server.session(json!({}));
    let form = encode(&[
        ("grant_type", TOKEN_EXCHANGE),
        ("subject_token", &session),
        ("subject_token_type", ACCESS_TOKEN),
        ("task_type", "refund_order"),
        ("resource", ORDERS),
    ]);
    let headers = [("authorization".to_owned(), basic)];
    server.send("/oauth/token", &headers, form, "application/x-www-form-urlencoded").await
}

async fn is_refused(server: &Server, secret: &str) {
    exchange(server, secret).await.refused(401, "invalid_client", "client_authentication_failed");
}

#[tokio::test]
async fn a_secret_made_by_command_works_at_once_and_no_apply_undoes_it() {
    let server = Server::start().await;
    let deployment = deployment(&server);
    let (exit, added) = add(&deployment).await;
    assert_eq!((exit, &added["valid"]), (Exit::Done, &json!(2)));
    let fresh = added["secret"].as_str().unwrap();
    assert!(fresh.starts_with("tgs_") && sha256(fresh).starts_with(added["secret_id"].as_str().unwrap()));
    exchange(&server, fresh).await.token();
    exchange(&server, &secret("support-agent")).await.token();

    let recorded = server
        .decision(&Answer {
            body: added.clone(),
            status: 200,
            headers: std::collections::HashMap::new(),
            text: String::new(),
        })
        .await;
    assert_eq!(recorded.record["asked"]["command"], "agent secret add");
    assert_eq!(recorded.record["granted"]["objects"][0]["object"], "Agent acme/support");
    assert!(recorded.record["actor"].as_str().unwrap().starts_with("uid "));
    assert!(!recorded.text().contains(fresh), "the secret is in the log");

    let applied = server.apply(&server.objects()).await.unwrap();
    assert!(
        applied.plan.is_empty(),
        "the file says nothing of it: {:?}",
        applied.plan.changes().collect::<Vec<_>>()
    );
    server.reapply("contact: support@acme.example", "contact: other@acme.example").await;
    exchange(&server, fresh).await.token();

    let (exit, full) = add(&deployment).await;
    assert_eq!((exit, &full["error"]), (Exit::Refused, &json!("secret_refused")), "{full}");
    let two = format!("[{}, {}]", sha256(&secret("support-agent")), sha256("third"));
    let file = server.objects().replace(&format!("[{}]", sha256(&secret("support-agent"))), &two);
    let fault = format!("{:?}", server.apply(&file).await.unwrap_err());
    assert!(fault.contains("taskgrant agent secret"), "{fault}");
    exchange(&server, fresh).await.token();

    // Rotation ends: the file drops the old one, the new one stays.
    server.reapply(&format!("[{}]", sha256(&secret("support-agent"))), "[]").await;
    is_refused(&server, &secret("support-agent")).await;
    exchange(&server, fresh).await.token();
    let newer = add(&deployment).await.1;
    let newer = newer["secret"].as_str().unwrap();
    let (exit, retired) = retire(&deployment, None).await;
    assert_eq!(
        (exit, &retired["secret_id"], &retired["valid"]),
        (Exit::Done, &added["secret_id"], &json!(1))
    );
    is_refused(&server, fresh).await;
    exchange(&server, newer).await.token();
}

#[tokio::test]
async fn what_retire_means_is_never_guessed_and_refusals_are_recorded() {
    let server = Server::start().await;
    let deployment = deployment(&server);
    let before = server.decisions().await;
    for (id, told) in
        [(None, "made by command"), (Some("0123456789ab"), "made by command"), (Some(""), "made by command")]
    {
        let (exit, refused) = retire(&deployment, id).await;
        assert_eq!((exit, &refused["error"]), (Exit::Refused, &json!("secret_refused")));
        assert!(refused["message"].as_str().unwrap().contains(told), "{refused}");
    }
    let added = add(&deployment).await.1;
    let (_, refused) = retire(&deployment, None).await;
    let id = added["secret_id"].as_str().unwrap();
    assert!(refused["message"].as_str().unwrap().contains(id), "one of the file, one by command: {refused}");
    let nobody = command(Secret::Add(args("nobody")), &deployment).await;
    assert_eq!((nobody.0, &nobody.1["error"]), (Exit::Refused, &json!("secret_refused")));
    assert_eq!(server.decisions().await, before + 6);
    let (exit, retired) = retire(&deployment, Some(&id[..6])).await;
    assert_eq!((exit, &retired["valid"]), (Exit::Done, &json!(1)));
    is_refused(&server, added["secret"].as_str().unwrap()).await;
}

#[tokio::test]
async fn a_file_may_not_set_the_secrets_of_the_command() {
    let server = Server::start().await;
    let hash = sha256("smuggled");
    let from = format!("auth: {{secret_sha256: [{}]}}", sha256(&secret("support-agent")));
    let to = format!("{}, issued_sha256: [{hash}]}}", from.trim_end_matches('}'));
    let fault = format!("{:?}", server.apply(&server.objects().replace(&from, &to)).await.unwrap_err());
    assert!(fault.contains("spec.auth.issued_sha256") && fault.contains("agent secret"), "{fault}");
    is_refused(&server, "smuggled").await;
}

#[tokio::test]
async fn without_a_server_the_command_does_the_same_in_process() {
    let server = Server::start().await;
    let (deployment, data) = (deployment(&server), server.data.clone());
    server.stop().await;
    let added = add(&deployment).await.1;
    assert_eq!(added["valid"], 2, "{added}");
    let (exit, retired) = retire(&deployment, added["secret_id"].as_str()).await;
    assert_eq!((exit, &retired["valid"]), (Exit::Done, &json!(1)));
    drop(data);
}
