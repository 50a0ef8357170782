// A partner that uses the npm package oauth4webapi. Speaks with its test in lines: see foreign.rs.
import { createInterface } from "node:readline";

const [library, issuer, clientId, secret, redirectUri] = process.argv.slice(2);
const oauth = await import(library);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const say = (word, value) => console.log(`${word} ${JSON.stringify(value)}`);
const insecure = { [oauth.allowInsecureRequests]: true };

const url = new URL(issuer);
const discovery = await oauth.discoveryRequest(url, { algorithm: "oauth2", ...insecure });
const as = await oauth.processDiscoveryResponse(url, discovery);
const client = { client_id: clientId };
const auth = oauth.ClientSecretPost(secret);

const verifier = oauth.generateRandomCodeVerifier();
const state = oauth.generateRandomState();
const authorize = new URL(as.authorization_endpoint);
for (const [name, value] of Object.entries({
  client_id: clientId,
  redirect_uri: redirectUri,
  response_type: "code",
  scope: "smart_home",
  state,
  code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
  code_challenge_method: "S256",
})) {
  authorize.searchParams.set(name, value);
}
say("authorize", authorize.href);

const back = new URL((await lines.next()).value);
const parameters = oauth.validateAuthResponse(as, client, back, state);
const exchange = () =>
  oauth.authorizationCodeGrantRequest(as, client, auth, parameters, redirectUri, verifier, insecure);
const tokens = await oauth.processAuthorizationCodeResponse(as, client, await exchange());
say("tokens", tokens);

const refresh = async (token) => {
  const response = await oauth.refreshTokenGrantRequest(as, client, auth, token, insecure);
  return oauth.processRefreshTokenResponse(as, client, response);
};
const refused = async (work) => {
  try {
    await work();
    return "not refused";
  } catch (error) {
    return error.error ?? String(error);
  }
};
for await (const line of lines) {
  const [word, token] = line.split(" ");
  if (word === "refresh") {
    say("tokens", await refresh(token));
  } else if (word === "stolen") {
    say("refused", await refused(() => refresh(token)));
  } else if (word === "revoke") {
    const response = await oauth.revocationRequest(as, client, auth, token, insecure);
    say("revoked", (await oauth.processRevocationResponse(response)) ?? null);
  } else if (word === "reuse") {
    const again = async () => oauth.processAuthorizationCodeResponse(as, client, await exchange());
    say("refused", await refused(again));
  } else {
    break;
  }
}
process.exit(0);
