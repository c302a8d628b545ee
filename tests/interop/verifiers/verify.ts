// How a service checks a Taskgrant token with jose. `npm install jose`.
import { createRemoteJWKSet, jwtVerify, type JWTPayload, type JWTVerifyGetKey } from 'jose'

type Expected = { issuer: string; audience: string; tenant: string; scope: string; actors: string[] }
type Claims = JWTPayload & { tenant: string; scope: string; act: { sub: string } }

/** The issuer's keys by way of its metadata. Make it once: it caches, and looks again when it meets a new key. */
export async function signingKeys(issuer: string): Promise<JWTVerifyGetKey> {
  const metadata = await (await fetch(`${issuer}/.well-known/oauth-authorization-server`)).json()
  if (metadata.issuer !== issuer) throw new Error('the metadata is of another issuer')
  return createRemoteJWKSet(new URL(metadata.jwks_uri))
}

/** The claims, or an exception. Only the outermost `act` is the caller: nested actors are history, not authority. */
export async function verify(token: string, keys: JWTVerifyGetKey, { tenant, scope, actors, ...expected }: Expected) {
  const { payload: claims } = await jwtVerify<Claims>(token, keys, {
    ...expected, typ: 'at+jwt', algorithms: ['ES256'], clockTolerance: 2, requiredClaims: ['exp', 'iat', 'sub', 'act'],
  })
  if (claims.aud !== expected.audience || claims.tenant !== tenant) throw new Error('not this service or tenant')
  if (!claims.scope.split(' ').includes(scope) || !actors.includes(claims.act.sub)) throw new Error('not this scope or actor')
  return claims
}
