// Whoever signs out at the provider ends at taskgrant what that session started: `node logout.mjs WORLD`.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { decodeJwt } from 'jose'
import { check } from '../tap.mjs'
import { login, logout } from './login.mjs'

const { issuer, provider, sessions, agents, resources } = JSON.parse(readFileSync(process.argv[2], 'utf8'))
const { planner } = agents
const { orders } = resources

async function post(path, { client_id, secret }, form) {
  const headers = { authorization: `Basic ${Buffer.from(`${client_id}:${secret}`).toString('base64')}` }
  const answer = await fetch(`${issuer}${path}`, { method: 'POST', headers, body: new URLSearchParams(form) })
  return answer.json()
}

const exchange = (subject_token, asked = {}) => post('/oauth/token', planner, {
  grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
  subject_token, subject_token_type: 'urn:ietf:params:oauth:token-type:access_token', ...asked })
const start = { task_type: 'refund_order', resource: orders.uri, scope: 'orders:read' }
const active = async (token) => (await post('/oauth/introspect', orders, { token })).active

await check('oidc-provider: a logout there ends the tasks of that session here, and a fresh login works', async () => {
  const jar = new Map()
  const signIn = (jar) => login({ issuer: provider, resource: issuer, user: 'alice', clientId: 'support-portal', jar })
  const { access_token, id_token } = await signIn(jar)
  assert.equal(typeof decodeJwt(access_token).sid, 'string')
  const root = (await exchange(access_token, start)).access_token
  const child = (await exchange(root)).access_token
  const elsewhere = (await exchange(sessions.alice.access_token, start)).access_token
  assert.deepEqual([await active(root), await active(child), await active(elsewhere)], [true, true, true])
  await logout({ issuer: provider, idToken: id_token, jar })
  assert.deepEqual([await active(root), await active(child), await active(elsewhere)], [false, false, true])
  for (const dead of [child, access_token]) {
    assert.equal((await exchange(dead, dead === access_token ? start : {})).reason_code, 'revoked')
  }
  const fresh = (await exchange((await signIn(new Map())).access_token, start)).access_token
  assert.equal(await active(fresh), true)
})
