// A company's identity provider, played by oidc-provider: `node provider.mjs ISSUER_FILE TASKGRANT_URL`.
//
// It listens on a free loopback port and writes its issuer URL to ISSUER_FILE once it serves. Access tokens for the
// resource that is asked for, a taskgrant, are RFC 9068 JWTs (RS256); ID tokens are signed with ES256, so that both algorithms are met.
// It tells the taskgrant of every logout from the portal, by back-channel logout.
import { createServer } from 'node:http'
import { renameSync, writeFileSync } from 'node:fs'
import { exportJWK, generateKeyPair } from 'jose'
import { Provider } from 'oidc-provider'
import { clients, users } from './directory.mjs'

const [issuerFile, taskgrant] = process.argv.slice(2)
const server = createServer()
await new Promise((done) => server.listen(0, '127.0.0.1', done))
const issuer = `http://127.0.0.1:${server.address().port}`

const signingKey = async (alg) =>
  ({ ...(await exportJWK((await generateKeyPair(alg, { extractable: true })).privateKey)), alg, use: 'sig', kid: alg.toLowerCase() })

const hears = { backchannel_logout_uri: `${taskgrant}/backchannel-logout`, backchannel_logout_session_required: true }

const provider = new Provider(issuer, {
  clients: clients.map((client) => (client.client_id === 'support-portal' ? { ...client, ...hears } : client)),
  jwks: { keys: [await signingKey('RS256'), await signingKey('ES256')] },
  cookies: { keys: ['interop-only'] },
  scopes: ['openid', 'groups'],
  claims: { openid: ['sub'], groups: ['groups'] },
  conformIdTokenClaims: false, // the scope `groups` puts the claim into the ID token
  pkce: { required: () => true },
  findAccount: (_, id) => users[id] && { accountId: id, claims: () => ({ sub: id, ...users[id] }) },
  extraTokenClaims: (ctx, token) => ({
    groups: users[token.accountId].groups,
    auth_time: ctx.oidc.entities.AuthorizationCode.authTime,
    sid: ctx.oidc.entities.AuthorizationCode.sid,
  }),
  ttl: { AccessToken: 1800, IdToken: 1800, Session: 3600, Grant: 3600, Interaction: 600 },
  // The taskgrant of this suite is on loopback, where the provider's own dispatcher connects to nobody.
  fetch: (url, { dispatcher, ...options }) => fetch(url, options),
  features: {
    backchannelLogout: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, resource) => ({
        scope: '', audience: resource, accessTokenFormat: 'jwt', accessTokenTTL: 1800, jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
})
provider.on('backchannel.error', (_, error, client) => console.error(`logout not told to ${client.clientId}:`, error))
server.on('request', provider.callback())
writeFileSync(`${issuerFile}.part`, issuer)
renameSync(`${issuerFile}.part`, issuerFile)
