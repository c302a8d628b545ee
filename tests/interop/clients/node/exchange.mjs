// The main job by openid-client, checked by jose: `node exchange.mjs WORLD METHOD`, METHOD as in RFC 7591 §2.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import * as client from 'openid-client'
import { check, refuses } from '../../tap.mjs'
import { signingKeys, verify } from '../../.cache/verifiers/verify.js'

const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token'

const [file, method] = process.argv.slice(2)
const { issuer, provider, sessions, agents, resources } = JSON.parse(readFileSync(file, 'utf8'))
const { orders, tickets } = resources
const session = sessions.alice.access_token

const authentication = {
  client_secret_basic: ({ secret }) => client.ClientSecretBasic(secret),
  client_secret_post: ({ secret }) => client.ClientSecretPost(secret),
  private_key_jwt: async ({ key }) => client.PrivateKeyJwt({
    key: await crypto.subtle.importKey('jwk', key, { name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign']), kid: key.kid }),
}[method]
const connect = async (party) =>
  client.discovery(new URL(issuer), party.client_id, undefined, await authentication(party), {
    algorithm: 'oauth2', execute: [client.allowInsecureRequests] })
const exchange = (config, subject_token, asked) =>
  client.genericGrantRequest(config, EXCHANGE, { subject_token, subject_token_type: ACCESS_TOKEN, ...asked })
const refused = async (config, error, subject, asked) => {
  const refusal = await exchange(config, subject, asked).then(
    () => assert.fail(`issued: ${JSON.stringify(asked)}`), (thrown) => thrown)
  if (!(refusal instanceof client.ResponseBodyError)) throw refusal
  assert.equal(refusal.error, error, JSON.stringify(refusal.cause))
  return refusal
}
const step = (name, test) => check(`openid-client/${method}: ${name}`, test)

const [planner, worker, stranger] = await Promise.all([agents.planner, agents.worker, agents.stranger].map(connect))
const keys = await signingKeys(issuer)
const claims = (token, bent = {}) =>
  verify(token, keys, {
    issuer, audience: orders.uri, tenant: 'acme', scope: 'orders:read', actors: ['refund-planner'], ...bent })

await step('metadata names the grant and the method', () => {
  const metadata = planner.serverMetadata()
  assert.equal(metadata.issuer, issuer)
  assert(metadata.grant_types_supported.includes(EXCHANGE))
  assert(metadata.token_endpoint_auth_methods_supported.includes(method))
})

await step('a session token becomes a task token', async () => {
  const answer = await exchange(planner, session, {
    task_type: 'refund_order', resource: orders.uri, scope: 'orders:read refunds:write', requested_expires_in: '120' })
  assert.deepEqual([answer.issued_token_type, answer.token_type], [ACCESS_TOKEN, 'bearer'])
  assert.deepEqual(answer.scope.split(' ').sort(), ['orders:read', 'refunds:write'])
  assert(answer.expires_in > 0 && answer.expires_in <= 120 && !('refresh_token' in answer))
  const is = await claims(answer.access_token, { scope: 'refunds:write' })
  assert.deepEqual([is.sub, is.client_id, is.task_type, is.depth_left], ['alice', 'refund-planner', 'refund_order@1', 2])
  assert.deepEqual(is.sub_id, { format: 'iss_sub', iss: provider, sub: 'alice' })
  assert(!('act' in is.act))
})

const wholeTask = await step('an exchange-only token carries both resources, and no service accepts it', async () => {
  const { access_token } = await exchange(planner, session, { audience: issuer, scope: 'orders:read refunds:write tickets:read' })
  const is = await claims(access_token, { audience: issuer, scope: 'tickets:read' })
  assert.deepEqual([...is.resources].sort(), [orders.uri, tickets.uri])
  assert(await refuses(() => claims(access_token)))
  return access_token
})

const narrow = await step('a child is narrower, of the same task, and not longer', async () => {
  const { access_token } = await exchange(planner, wholeTask, { resource: orders.uri, scope: 'orders:read' })
  const [is, parent] = [await claims(access_token), await claims(wholeTask, { audience: issuer })]
  assert.deepEqual([is.scope, is.task_id, is.act, is.depth_left], ['orders:read', parent.task_id, parent.act, parent.depth_left])
  assert(is.exp <= parent.exp)
  return access_token
})

await step('asking for more than the parent holds is invalid_scope, with what is grantable', async () => {
  const refusal = await refused(planner, 'invalid_scope', narrow, { resource: orders.uri, scope: 'orders:read refunds:write' })
  assert.equal(refusal.status, 400)
  assert(refusal.cause.decision_id)
  assert.deepEqual([refusal.cause.ceiling, refusal.cause.retry], ['parent', 'narrower'])
})

await step('a hand-over token is redeemed once, by the named agent only, and the chain is nested', async () => {
  const { access_token } = await exchange(planner, wholeTask, {
    audience: issuer, scope: 'orders:read', delegate_to: 'orders-worker' })
  await refused(stranger, 'invalid_request', access_token, { resource: orders.uri })
  const handed = (await exchange(worker, access_token, { resource: orders.uri })).access_token
  await refused(worker, 'invalid_request', access_token, { resource: orders.uri })
  const is = await claims(handed, { actors: ['orders-worker'] })
  assert.deepEqual([is.act.sub, is.act.act.sub, is.depth_left], ['orders-worker', 'refund-planner', 1])
  assert(await refuses(() => claims(handed, { actors: ['refund-planner'] })), 'a nested actor was accepted')
})

await step('the verifier refuses another tenant, audience, issuer, scope, and the session itself', async () => {
  assert(await refuses(() => claims(narrow, { tenant: 'globex' })))
  assert(await refuses(() => claims(narrow, { audience: tickets.uri })))
  assert(await refuses(() => claims(narrow, { issuer: 'https://elsewhere.example' })))
  assert(await refuses(() => claims(narrow, { scope: 'refunds:write' })))
  assert(await refuses(() => claims(session)))
})

await step('a wrong secret or key is invalid_client', async () => {
  const impostor = await connect({ ...agents.planner, secret: 'A'.repeat(43), key: agents.stranger.key })
  const thrown = await exchange(impostor, session, { resource: orders.uri }).then(() => assert.fail('issued'), (e) => e)
  // With a challenge openid-client reports the challenge, without one the body.
  assert.equal(thrown.status, 401)
  assert(thrown instanceof client.WWWAuthenticateChallengeError || thrown.error === 'invalid_client')
})

await step('introspection and revocation: a parent ends its children', async () => {
  const ordersApi = await connect(orders)
  const parent = (await exchange(planner, session, { audience: issuer })).access_token
  const child = (await exchange(planner, parent, { resource: orders.uri })).access_token
  const before = await client.tokenIntrospection(ordersApi, child)
  assert.deepEqual([before.active, before.sub, before.act.sub], [true, 'alice', 'refund-planner'])
  await client.tokenRevocation(planner, parent)
  assert.deepEqual(await client.tokenIntrospection(ordersApi, child), { active: false })
})
