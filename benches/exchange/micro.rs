//! F, V and X in process, one thread of ours. Nothing that is timed is asserted.

use std::io::Write;

use axum::Router;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};

use crate::drive::{Began, Cost, IN_FLIGHT, OPERATIONS, OWN, ROUNDS, Server, drive, mean};
use crate::naive;
use crate::world::{Idp, Outcome, authorization, median, objects};

/// One round of floors.
struct Round {
    f: Cost,
    v: Cost,
    x: Cost,
}

/// Runs all of it.
pub(crate) async fn run(out: &mut impl Write, idp: &Idp) -> Outcome<()> {
    let x = Server::start(objects(&idp.issuer, OWN, 10), "").await?;
    let v = naive::router(OWN, idp.keys.jwks())?;
    writeln!(
        out,
        "in process, {IN_FLIGHT} in flight, {ROUNDS} rounds of {OPERATIONS}, cache off; µs for one operation"
    )?;
    floors(out, idp, &v, &x.router).await
}

/// F V X V F in each round.
async fn floors(out: &mut impl Write, idp: &Idp, v: &Router, x: &Router) -> Outcome<()> {
    let agent = &authorization();
    drive(v, agent, idp.requests(OWN, 300)?).await?;
    drive(x, agent, idp.requests(OWN, 300)?).await?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let before = (floor()?, drive(v, agent, idp.requests(OWN, OPERATIONS)?).await?);
        let full = drive(x, agent, idp.requests(OWN, OPERATIONS)?).await?;
        let after = (drive(v, agent, idp.requests(OWN, OPERATIONS)?).await?, floor()?);
        rounds.push(Round { f: mean(before.0, after.1), v: mean(before.1, after.0), x: full });
    }
    let middle = |of: &dyn Fn(&Round) -> f64| median(rounds.iter().map(of).collect());
    writeln!(out, "                            wall     cpu")?;
    let mut line = |name: &str, wall: &dyn Fn(&Round) -> f64, cpu: &dyn Fn(&Round) -> f64| {
        writeln!(out, "{name:<24} {:7.2} {:7.2}", middle(wall), middle(cpu))
    };
    line("F  ES256 verify + sign", &|r| r.f.wall, &|r| r.f.cpu)?;
    line("V  naive", &|r| r.v.wall, &|r| r.v.cpu)?;
    line("X  full root exchange", &|r| r.x.wall, &|r| r.x.cpu)?;
    // Rates are the inverse of costs.
    line("V / F (rates)", &|r| r.f.wall / r.v.wall, &|r| r.f.cpu / r.v.cpu)?;
    line("X / V (rates)", &|r| r.v.wall / r.x.wall, &|r| r.v.cpu / r.x.cpu)?;
    line("X / F (costs)", &|r| r.x.wall / r.f.wall, &|r| r.x.cpu / r.f.cpu)?;
    Ok(())
}

/// ES256 verify and sign of 1 KiB with ring.
pub(crate) fn floor() -> Outcome<Cost> {
    let rng = SystemRandom::new();
    let document =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).map_err(|e| e.to_string())?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &rng);
    let pair = pair.map_err(|e| e.to_string())?;
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref());
    let message = [0x5a; 1024];
    let mut signature = pair.sign(&rng, &message).map_err(|e| e.to_string())?;
    let began = Began::now()?;
    for _ in 0..OPERATIONS {
        public.verify(&message, signature.as_ref()).map_err(|e| e.to_string())?;
        signature = pair.sign(&rng, &message).map_err(|e| e.to_string())?;
    }
    began.cost(OPERATIONS)
}
