// verify.ts, compiled, against the samples: `node test_verify.mjs SAMPLES_ISSUER`.
import assert from 'node:assert/strict'
import { check, refuses } from '../tap.mjs'
import { signingKeys, verify } from '../.cache/verifiers/verify.js'

const [issuer] = process.argv.slice(2)
const { expect, samples } = await (await fetch(`${issuer}/samples`)).json()
const keys = await signingKeys(issuer)

for (const { name, token, accepted } of samples) {
  await check(`verify.ts ${accepted ? 'accepts' : 'refuses'} ${name}`, async () =>
    assert.equal(await refuses(() => verify(token, keys, expect)), !accepted))
}
