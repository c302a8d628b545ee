// An issuer of good and bad tokens for testing the verifiers: `node samples.mjs ISSUER_FILE`.
//
// GET /samples: {"expect": what the service expects, "samples": [{name, token, accepted}]}. One bend per sample.
// GET /status-samples: the same of tokens with a status; POST /break and /mend: from then on no list is served, or again.
import { createServer } from 'node:http'
import { renameSync, writeFileSync } from 'node:fs'
import { deflateSync } from 'node:zlib'
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

// Status lists. Bit 1 is set, of 16; each list is signed when it is asked for.
const at = (name) => `${issuer}/oauth/status/${name}`
const pack = (...bytes) => deflateSync(Uint8Array.from(bytes)).toString('base64url')
const bits = (lst = pack(0b10, 0), more = {}) => ({ status_list: { bits: 1, lst, ...more } })
const listOf = (bend = {}, head = {}, key = ours.privateKey) => (uri, now) =>
  new SignJWT({ sub: uri, iat: now, exp: now + 60, ttl: 15, ...bits(), ...bend })
    .setProtectedHeader({ alg: 'ES256', typ: 'statuslist+jwt', kid: 'ours', ...head }).sign(key)
const lists = {
  good: listOf(),
  short: (uri, now) => listOf({ ttl: 1, exp: now + 4 })(uri, now),
  'typ-jwt': listOf({}, { typ: 'JWT' }),
  'typ-at': listOf({}, { typ: 'at+jwt' }),
  'no-typ': listOf({}, { typ: undefined }),
  sub: listOf({ sub: at('good') }),
  expired: (uri, now) => listOf({ iat: now - 100, exp: now - 40 })(uri, now),
  'no-exp': listOf({ exp: undefined }),
  foreign: listOf({}, {}, foreign.privateKey),
  rs256: listOf({}, { alg: 'RS256', kid: 'rsa' }, rsa.privateKey),
  'two-bits': listOf(bits(pack(0, 0, 0, 0), { bits: 2 })),
  'not-packed': listOf(bits(Buffer.from([0, 0]).toString('base64url'))),
}
let broken = false
const withStatus = (status_list) => sign({ status: { status_list } })
const placed = (name, idx) => withStatus({ idx, uri: at(name) })
const alive = {
  'a live token': await placed('good', 0),
  'a live token whose bit is set from the other end': await placed('good', 6),
  'the last place of a list': await placed('good', 15),
}
const dead = {
  'a revoked token': await placed('good', 1),
  'a place beyond the end': await placed('good', 16),
  'a place far beyond the end': await placed('good', 1 << 20),
  'a negative place': await placed('good', -1),
  'a place that is no number': await placed('good', '0'),
  'a token without status': await sign(),
  'a status of another mechanism': await sign({ status: { token_status: 0 } }),
  'a list at another origin': await withStatus({ idx: 0, uri: 'http://127.0.0.1:9/oauth/status/good' }),
  'a list whose address only begins alike': await withStatus({ idx: 0, uri: `${issuer}.evil.example/oauth/status/good` }),
  'a list that is not there': await placed('missing', 0),
  'a redirect instead of a list': await placed('moved', 0),
  'typ JWT for a list': await placed('typ-jwt', 0),
  'typ of an access token for a list': await placed('typ-at', 0),
  'a list without typ': await placed('no-typ', 0),
  'a list of another address': await placed('sub', 0),
  'a list that has run out': await placed('expired', 0),
  'a list that never runs out': await placed('no-exp', 0),
  'a list by a foreign key': await placed('foreign', 0),
  'a list by RS256': await placed('rs256', 0),
  'a list of two bits': await placed('two-bits', 0),
  'a list that is not packed': await placed('not-packed', 0),
  'an expired token with a live place': await sign({ exp: now - 300, status: { status_list: { idx: 0, uri: at('good') } } }),
  'the list itself as token': await listOf(good)(at('good'), now),
}

async function answerList(name, response) {
  if (name === 'moved') return response.writeHead(302, { location: at('good') }).end()
  const make = broken ? undefined : lists[name]
  if (!make) return response.writeHead(broken ? 503 : 404).end()
  const list = await make(at(name), Math.floor(Date.now() / 1000))
  response.writeHead(200, { 'content-type': 'application/statuslist+jwt' }).end(list)
}

const routes = {
  '/.well-known/oauth-authorization-server': { issuer, jwks_uri: `${issuer}/oauth/jwks` },
  '/oauth/jwks': jwks,
  '/samples': {
    expect: { issuer, audience: service, tenant: 'acme', scope: 'orders:read', actors: [worker] },
    samples: [...list(accepted, true), ...list(refused, false)],
  },
}
routes['/status-samples'] = {
  expect: routes['/samples'].expect, short: await placed('short', 0),
  samples: [...list(alive, true), ...list(dead, false)],
}
server.on('request', (request, response) => {
  if (request.url.startsWith('/oauth/status/')) return answerList(request.url.slice('/oauth/status/'.length), response)
  if (['/break', '/mend'].includes(request.url)) broken = request.url === '/break'
  const body = routes[request.url]
  response.writeHead(body ? 200 : 404, { 'content-type': 'application/json' }).end(JSON.stringify(body ?? {}))
})
writeFileSync(`${issuerFile}.part`, issuer)
renameSync(`${issuerFile}.part`, issuerFile)
