// Whether a Taskgrant token is revoked, by its status list; for claims that verify.ts has accepted.
import { base64url, jwtVerify, type JWTPayload, type JWTVerifyGetKey } from 'jose'

type Kept = { bits: Uint8Array; exp: number; lookAgain: number }
type List = JWTPayload & { exp: number; iat: number; ttl: number; status_list: { bits: number; lst: string } }

/** The lists of one issuer, each kept for its `ttl`. Make it once, with the keys of verify.ts. */
export class StatusLists {
  private kept = new Map<string, Kept>()
  constructor(private issuer: string, private keys: JWTVerifyGetKey) {}

  /** An exception when the token is revoked, or when nobody can tell. */
  async check(claims: JWTPayload): Promise<void> {
    const { idx, uri } = (claims.status as { status_list: { idx: number; uri: string } }).status_list
    const byte = (await this.bits(uri))[Math.floor(idx / 8)]
    if (!Number.isInteger(idx) || byte === undefined || (byte >> (idx % 8)) & 1) throw new Error('revoked, or beyond the end of its status list')
  }

  private async bits(uri: string): Promise<Uint8Array> {
    if (!uri.startsWith(`${this.issuer}/oauth/status/`)) throw new Error("the status list is somebody else's")
    const now = Date.now() / 1000
    let kept = this.kept.get(uri)
    if (!kept || now >= kept.lookAgain) {
      try {
        kept = await this.fetch(uri)
        this.kept.set(uri, kept)
      } catch (fault) {
        if (!kept || now >= kept.exp) throw new Error('the status list cannot be had', { cause: fault })
        kept.lookAgain = now + 1
      }
    }
    return kept.bits
  }

  private async fetch(uri: string): Promise<Kept> {
    const accept = { accept: 'application/statuslist+jwt' }
    const answer = await fetch(uri, { headers: accept, redirect: 'error', signal: AbortSignal.timeout(5000) })
    if (answer.status !== 200) throw new Error(`the status list is ${answer.status}`)
    const { payload: told } = await jwtVerify<List>(await answer.text(), this.keys, {
      typ: 'statuslist+jwt', subject: uri, algorithms: ['ES256'], requiredClaims: ['iat', 'exp', 'ttl', 'status_list'],
    })
    if (told.status_list.bits !== 1) throw new Error('a status list of another kind')
    const packed = new Blob([Uint8Array.from(base64url.decode(told.status_list.lst))]).stream()
    const bits = await new Response(packed.pipeThrough(new DecompressionStream('deflate'))).arrayBuffer()
    // Counted from `iat`, so that a cache in between makes nothing last longer.
    return { bits: new Uint8Array(bits), exp: told.exp, lookAgain: Math.min(told.iat, Date.now() / 1000) + told.ttl }
  }
}
