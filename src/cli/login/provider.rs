//! The identity provider, through `openidconnect`: authorization code with PKCE (RFC 7636) or on another device (RFC 8628).

use std::time::Duration;

use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreClaimName, CoreClaimType, CoreClient,
    CoreClientAuthMethod, CoreDeviceAuthorizationResponse, CoreGrantType, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm, CoreResponseMode, CoreResponseType,
    CoreSubjectIdentifierType, CoreTokenResponse,
};
use openidconnect::{
    AdditionalProviderMetadata, AuthorizationCode, ClientId, CsrfToken, DeviceAuthorizationUrl, HttpRequest,
    IssuerUrl, Nonce, OAuth2TokenResponse as _, PkceCodeChallenge, ProviderMetadata, RedirectUrl, Scope,
};
use serde::{Deserialize, Serialize};

use super::LONGEST_WHY;
use super::browser::{Callback, Sender};
use crate::admin::transport::safe_url;
use crate::domain::ids::{shown, shown_up_to};
use crate::domain::objects::SessionTokenKind;
use crate::terminal::http::Http;
use crate::terminal::output::Output;

/// What of the metadata the crate does not know by itself.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct MoreMetadata {
    device_authorization_endpoint: Option<DeviceAuthorizationUrl>,
    /// Whether its answers say whose they are (RFC 9207 §3).
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl AdditionalProviderMetadata for MoreMetadata {}

type Metadata = ProviderMetadata<
    MoreMetadata,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

/// An identity provider, and who asks it.
pub(super) struct Provider<'h> {
    metadata: Metadata,
    client: String,
    http: &'h Http,
}

/// What a sign-in gave.
pub(super) struct Tokens {
    access_token: String,
    id_token: Option<String>,
}

impl Tokens {
    /// The one of this kind.
    pub(super) fn pick(self, kind: SessionTokenKind) -> Result<String, String> {
        match kind {
            SessionTokenKind::IdToken => {
                self.id_token.ok_or_else(|| "the identity provider gave no ID token".to_owned())
            }
            SessionTokenKind::AccessToken | SessionTokenKind::Jwt => Ok(self.access_token),
        }
    }
}

impl<'h> Provider<'h> {
    /// The provider `issuer`, whose metadata must name it exactly, and `client` there, a public client.
    pub(super) async fn discover(issuer: &str, client: &str, http: &'h Http) -> Result<Self, String> {
        let url = IssuerUrl::new(issuer.to_owned()).map_err(|why| format!("`{}`: {why}", shown(issuer)))?;
        let send = |request: HttpRequest| http.send(request);
        let metadata = Metadata::discover_async(url, &send).await;
        let unknown = |why| format!("the identity provider {} is not known: {}", shown(issuer), all(&why));
        let metadata = metadata.map_err(unknown)?;
        Ok(Self { metadata, client: client.to_owned(), http })
    }

    /// Has somebody sign in in a browser of this machine, whose answer comes to a port of it. `prompt=login` and `max_age=0`: an earlier
    /// login would not be one of just now.
    pub(super) async fn in_a_browser(
        self,
        scopes: &[String],
        output: &mut Output<'_>,
    ) -> Result<Tokens, String> {
        let page = self.metadata.authorization_endpoint().as_str();
        safe_url(page).map_err(|why| format!("the identity provider's authorization endpoint: {why}"))?;
        let callback = Callback::open().await?;
        let redirect = RedirectUrl::new(callback.url().to_owned()).map_err(|why| why.to_string())?;
        let sender = Sender {
            issuer: self.metadata.issuer().to_string(),
            says_so: self.metadata.additional_metadata().authorization_response_iss_parameter_supported,
        };
        let client = CoreClient::from_provider_metadata(self.metadata, ClientId::new(self.client), None)
            .set_redirect_uri(redirect);
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let flow = CoreAuthenticationFlow::AuthorizationCode;
        let (url, state, nonce) = client
            .authorize_url(flow, CsrfToken::new_random, Nonce::new_random)
            .add_scopes(scopes.iter().cloned().map(Scope::new))
            .add_prompt(CoreAuthPrompt::Login)
            .set_max_age(Duration::ZERO)
            .set_pkce_challenge(challenge)
            .url();
        output.line("Open this in a browser on this machine, and sign in:");
        output.line(url.as_str());
        let code = callback.code(state.secret(), &sender).await?;
        let http = self.http;
        let send = |request: HttpRequest| http.send(request);
        let exchange = client.exchange_code(AuthorizationCode::new(code)).map_err(|why| why.to_string())?;
        let tokens = exchange.set_pkce_verifier(verifier).request_async(&send).await;
        let tokens = tokens.map_err(|why| format!("the identity provider gives no token: {}", all(&why)))?;
        if let Some(token) = tokens.extra_fields().id_token() {
            let claims = token.claims(&client.id_token_verifier(), &nonce);
            claims.map_err(|why| format!("the ID token is not for this sign-in: {}", all(&why)))?;
        }
        Ok(of(&tokens))
    }

    /// Has somebody sign in wherever they have a browser.
    pub(super) async fn on_another_device(
        self,
        scopes: &[String],
        output: &mut Output<'_>,
    ) -> Result<Tokens, String> {
        let endpoint = self.metadata.additional_metadata().device_authorization_endpoint.clone();
        let endpoint =
            endpoint.ok_or("the identity provider has no `device_authorization_endpoint` (RFC 8628)")?;
        let client = CoreClient::from_provider_metadata(self.metadata, ClientId::new(self.client), None)
            .set_device_authorization_url(endpoint);
        let http = self.http;
        let send = |request: HttpRequest| http.send(request);
        let asked = client.exchange_device_code().add_scopes(scopes.iter().cloned().map(Scope::new));
        let asked = asked.add_extra_param("prompt", "login").add_extra_param("max_age", "0");
        let details: CoreDeviceAuthorizationResponse = asked
            .request_async(&send)
            .await
            .map_err(|why| format!("the identity provider gives no code: {}", all(&why)))?;
        // Parsed, so that nothing of it but printable ASCII reaches the terminal.
        let page = safe_url(details.verification_uri().as_str());
        let page = page.map_err(|why| format!("the identity provider's page: {why}"))?;
        output.line(&format!("Open {} and type the code {}", page, shown(details.user_code().secret())));
        let polls = client.exchange_device_access_token(&details).map_err(|why| why.to_string())?;
        let tokens = polls.request_async(&send, tokio::time::sleep, None).await;
        let tokens = tokens.map_err(|why| format!("the identity provider gives no token: {}", all(&why)))?;
        Ok(of(&tokens))
    }
}

fn of(tokens: &CoreTokenResponse) -> Tokens {
    Tokens {
        access_token: tokens.access_token().secret().clone(),
        id_token: tokens.extra_fields().id_token().map(ToString::to_string),
    }
}

/// An error and its causes, the outer ones of which only say that something failed: as the provider words them, masked.
fn all(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    shown_up_to(&text, LONGEST_WHY)
}
