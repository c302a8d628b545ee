// A browser without a screen: signs USER in to CLIENT by authorization code with PKCE.
//
// `node login.mjs ISSUER RESOURCE` writes the sessions of the suite as JSON: {"alice": {access_token, id_token}, …}.
import assert from 'node:assert/strict'
import * as client from 'openid-client'
import { clients } from './directory.mjs'

// `jar` holds the cookies of the browser: another one is another session.
export async function login({ issuer, resource, user, clientId, jar = new Map() }) {
  const app = clients.find((c) => c.client_id === clientId)
  const config = await client.discovery(new URL(issuer), clientId, app.client_secret, undefined, {
    execute: [client.allowInsecureRequests],
  })
  const verifier = client.randomPKCECodeVerifier()
  const [state, nonce] = [client.randomState(), client.randomNonce()]
  const start = client.buildAuthorizationUrl(config, {
    redirect_uri: app.redirect_uris[0],
    scope: 'openid groups',
    resource,
    state,
    nonce,
    code_challenge: await client.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
  })
  const callback = await browse(start, app.redirect_uris[0], { login: { login: user, password: 'any' }, consent: {} }, jar)
  return client.authorizationCodeGrant(
    config, callback, { pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce }, { resource })
}

const cookies = (jar) => ({ cookie: [...jar].map(([name, value]) => `${name}=${value}`).join('; ') })

function keep(jar, response) {
  for (const cookie of response.headers.getSetCookie()) {
    const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie)
    value ? jar.set(name, value) : jar.delete(name)
  }
}

// Signs the browser of `jar` out (OpenID Connect RP-Initiated Logout 1.0), and says yes where the provider asks.
export async function logout({ issuer, idToken, jar }) {
  const { end_session_endpoint: end } = await (await fetch(`${issuer}/.well-known/openid-configuration`)).json()
  const asked = await fetch(`${end}?${new URLSearchParams({ id_token_hint: idToken })}`, { headers: cookies(jar) })
  keep(jar, asked)
  const page = await asked.text()
  const [, xsrf] = /name="xsrf" value="([^"]+)"/.exec(page) ?? assert.fail(`unexpected page: ${page.slice(0, 300)}`)
  const [, action] = /action="([^"]+)"/.exec(page)
  const ended = await fetch(new URL(action, end), {
    method: 'POST', redirect: 'manual', headers: cookies(jar), body: new URLSearchParams({ xsrf, logout: 'yes' }) })
  assert(ended.status < 400, `the provider did not sign out: ${ended.status}`)
}

// Follows redirects with a cookie jar, answers the provider's forms, and stops where the application would take over.
async function browse(start, stop, answers, jar) {
  let [url, init] = [start, {}]
  for (let hop = 0; hop < 12; hop++) {
    const response = await fetch(url, {
      ...init,
      redirect: 'manual',
      headers: cookies(jar),
    })
    keep(jar, response)
    const location = response.headers.get('location')
    if (location) {
      ;[url, init] = [new URL(location, url), {}]
      if (url.href.startsWith(stop)) return url
      continue
    }
    const page = await response.text()
    const prompt = /name="prompt" value="(\w+)"/.exec(page)?.[1]
    assert(response.ok && answers[prompt], `unexpected page at ${url}: ${response.status} ${page.slice(0, 300)}`)
    url = new URL(/action="([^"]+)"/.exec(page)[1], url)
    init = { method: 'POST', body: new URLSearchParams({ prompt, ...answers[prompt] }) }
  }
  assert.fail('too many redirects')
}

if (import.meta.filename === process.argv[1]) {
  const [issuer, resource] = process.argv.slice(2)
  const session = async (user, clientId) => {
    const { access_token, id_token } = await login({ issuer, resource, user, clientId })
    return { access_token, id_token }
  }
  const sessions = {
    alice: await session('alice', 'support-portal'),
    bob: await session('bob', 'support-portal'),
    alice_elsewhere: await session('alice', 'newsletter'),
  }
  console.log(JSON.stringify(sessions))
}
