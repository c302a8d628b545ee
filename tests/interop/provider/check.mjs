// The provider's session tokens are what a company's would be, by jose: `node check.mjs PROVIDER TASKGRANT_URL SESSIONS`.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRemoteJWKSet, jwtVerify } from 'jose'
import { check } from '../tap.mjs'

const [provider, taskgrant, file] = process.argv.slice(2)
const sessions = JSON.parse(readFileSync(file, 'utf8'))
const metadata = await (await fetch(`${provider}/.well-known/openid-configuration`)).json()
const keys = createRemoteJWKSet(new URL(metadata.jwks_uri))

await check('provider/jose: the access token is an RFC 9068 JWT for Taskgrant', async () => {
  const { payload } = await jwtVerify(sessions.alice.access_token, keys, {
    typ: 'at+jwt', algorithms: ['RS256'], issuer: provider, audience: taskgrant })
  assert.deepEqual(
    [payload.sub, payload.client_id, payload.groups, typeof payload.auth_time],
    ['alice', 'support-portal', ['support', 'eu'], 'number'])
})

await check('provider/jose: the ID token is for the application', async () => {
  const { payload } = await jwtVerify(sessions.alice.id_token, keys, {
    algorithms: ['ES256'], issuer: provider, audience: 'support-portal' })
  assert.deepEqual([payload.sub, payload.groups, typeof payload.auth_time], ['alice', ['support', 'eu'], 'number'])
})

await check('provider/jose: the same person at another application has another client_id', async () => {
  const { payload } = await jwtVerify(sessions.alice_elsewhere.access_token, keys, { audience: taskgrant })
  assert.deepEqual([payload.sub, payload.client_id], ['alice', 'newsletter'])
})
