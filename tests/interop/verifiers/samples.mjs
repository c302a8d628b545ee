// An issuer of good and bad tokens for testing the verifiers: `node samples.mjs ISSUER_FILE`.
//
// GET /samples: {"expect": what the service expects, "samples": [{name, token, accepted}]}. One bend per sample.
import { createServer } from 'node:http'
import { renameSync, writeFileSync } from 'node:fs'
import { SignJWT, UnsecuredJWT, exportJWK, generateKeyPair } from 'jose'

const [issuerFile] = process.argv.slice(2)
const server = createServer()
await new Promise((done) => server.listen(0, '127.0.0.1', done))
const issuer = `http://127.0.0.1:${server.address().port}`

const ours = await generateKeyPair('ES256', { extractable: true })
const rsa = await generateKeyPair('RS256', { extractable: true })
const foreign = await generateKeyPair('ES256', { extractable: true })
const foreignJwk = await exportJWK(foreign.publicKey)
const jwks = {
  keys: [
    { ...(await exportJWK(ours.publicKey)), kid: 'ours', alg: 'ES256', use: 'sig' },
    { ...(await exportJWK(rsa.publicKey)), kid: 'rsa', alg: 'RS256', use: 'sig' },
  ],
}

const now = Math.floor(Date.now() / 1000)
const [service, worker, planner] = ['https://orders.acme.example', 'orders-worker', 'refund-planner']
const good = {
  iss: issuer, sub: 'alice', aud: service, iat: now, nbf: now, exp: now + 300, jti: 'a', client_id: worker, tenant: 'acme',
  scope: 'orders:read refunds:write', act: { iss: issuer, sub: worker, act: { iss: issuer, sub: planner } },
  task_id: 't', task_type: 'refund_order@1', task_exp: now + 3600, depth_left: 1,
}
const header = { alg: 'ES256', typ: 'at+jwt', kid: 'ours' }
const sign = (claims = {}, head = {}, key = ours.privateKey) =>
  new SignJWT({ ...good, ...claims }).setProtectedHeader({ ...header, ...head }).sign(key)
const hmacKey = new TextEncoder().encode(JSON.stringify(jwks.keys[0]))
const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')
const swapped = async () => {
  const [head, , signature] = (await sign()).split('.')
  return [head, part({ ...good, scope: 'admin:all orders:read' }), signature].join('.')
}

const accepted = {
  'a good token': await sign(),
  'a token whose typ is spelt in full': await sign({}, { typ: 'application/at+jwt' }),
  'a token without nested actors': await sign({ act: { iss: issuer, sub: worker } }),
}
const refused = {
  'another tenant': await sign({ tenant: 'globex' }),
  'no tenant': await sign({ tenant: undefined }),
  'another audience': await sign({ aud: 'https://tickets.acme.example' }),
  'several audiences': await sign({ aud: [service, 'https://tickets.acme.example'] }),
  'an exchange-only token': await sign({ aud: issuer }),
  'a missing scope': await sign({ scope: 'refunds:write' }),
  'a scope that only begins alike': await sign({ scope: 'orders:read-all orders:reads' }),
  'no scope claim': await sign({ scope: undefined }),
  'a trusted actor that is only nested': await sign({ act: { iss: issuer, sub: 'stranger', act: { iss: issuer, sub: worker } } }),
  'no act': await sign({ act: undefined }),
  'an act that is a string': await sign({ act: worker }),
  'another issuer': await sign({ iss: 'https://elsewhere.example' }),
  'an expired token': await sign({ iat: now - 600, nbf: now - 600, exp: now - 300 }),
  'a token that is not valid yet': await sign({ nbf: now + 300 }),
  'no exp': await sign({ exp: undefined }),
  'typ JWT': await sign({}, { typ: 'JWT' }),
  'no typ': await sign({}, { typ: undefined }),
  'typ of a client assertion': await sign({}, { typ: 'client-authentication+jwt' }),
  'alg none': new UnsecuredJWT(good).encode(),
  'alg none with our typ': `${part({ ...header, alg: 'none' })}.${part(good)}.`,
  'RS256 by a published key': await sign({}, { alg: 'RS256', kid: 'rsa' }, rsa.privateKey),
  'HS256 with the public key as secret': await sign({}, { alg: 'HS256' }, hmacKey),
  'a foreign key under our kid': await sign({}, {}, foreign.privateKey),
  'a foreign key in the header': await sign({}, { kid: 'x', jwk: foreignJwk }, foreign.privateKey),
  'an unknown critical header': await new SignJWT(good).setProtectedHeader({ ...header, crit: ['x'], x: 1 })
    .sign(ours.privateKey, { crit: { x: true } }),
  'a payload swapped under the signature': await swapped(),
}
const list = (tokens, accepted) => Object.entries(tokens).map(([name, token]) => ({ name, token, accepted }))
const routes = {
  '/.well-known/oauth-authorization-server': { issuer, jwks_uri: `${issuer}/oauth/jwks` },
  '/oauth/jwks': jwks,
  '/samples': {
    expect: { issuer, audience: service, tenant: 'acme', scope: 'orders:read', actors: [worker] },
    samples: [...list(accepted, true), ...list(refused, false)],
  },
}
server.on('request', (request, response) => {
  const body = routes[request.url]
  response.writeHead(body ? 200 : 404, { 'content-type': 'application/json' }).end(JSON.stringify(body ?? {}))
})
writeFileSync(`${issuerFile}.part`, issuer)
renameSync(`${issuerFile}.part`, issuerFile)
