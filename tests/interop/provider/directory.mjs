// Who may sign in at the provider, and with which applications.
export const users = {
  alice: { groups: ['support', 'eu'] },
  bob: { groups: ['sales'] },
}

const application = (client_id) => ({
  client_id,
  client_secret: `${client_id}-upstream-secret`,
  redirect_uris: [`https://${client_id}.acme.example/callback`],
  id_token_signed_response_alg: 'ES256',
  require_auth_time: true,
})

// The portal's tokens may be spent by the planner (objects/agents.yaml); the newsletter's by nobody.
export const clients = [application('support-portal'), application('newsletter')]
