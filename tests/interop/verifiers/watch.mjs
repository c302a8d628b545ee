// verify.ts and status.ts, compiled, on tokens, one a line: `node watch.mjs ISSUER AUDIENCE TENANT SCOPE ACTOR`.
import { createInterface } from 'node:readline'
import { StatusLists } from '../.cache/verifiers/status.js'
import { signingKeys, verify } from '../.cache/verifiers/verify.js'

const [issuer, audience, tenant, scope, actor] = process.argv.slice(2)
const keys = await signingKeys(issuer)
const lists = new StatusLists(issuer, keys)
for await (const token of createInterface({ input: process.stdin })) {
  try {
    await lists.check(await verify(token, keys, { issuer, audience, tenant, scope, actors: [actor] }))
    console.log('accepted')
  } catch (why) {
    console.log(`refused: ${String(why).replaceAll('\n', ' ')}`)
  }
}
