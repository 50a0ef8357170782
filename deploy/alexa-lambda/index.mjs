// The relay between Alexa and a Vestibule hub, for AWS Lambda (Node.js 20 or newer). No dependencies.
//
// Amazon calls smart-home skills only through AWS Lambda. This function hands each directive to the hub over HTTPS and the
// hub's answer back to Alexa. It stores nothing and logs no content: what the home tells, the hub has decided and recorded
// before.
//
// Environment: VESTIBULE_URL, the hub's public address, as in https://home.example.org

/** Alexa gives a skill 8 seconds. */
const ANSWER_TIMEOUT_MS = 7000;

/** Most bytes of an answer: Lambda's own limit for a synchronous answer is 6 MB. */
const ANSWER_MAX_BYTES = 6 * 1024 * 1024;

/** The address of the directives, or an error that says what to correct. */
export function target(environment) {
  const text = environment.VESTIBULE_URL ?? "";
  let url;
  try {
    url = new URL(text);
  } catch {
    throw new Error("set the environment variable VESTIBULE_URL to the hub's https:// address");
  }
  const loopback = ["127.0.0.1", "[::1]"].includes(url.hostname);
  // Only for the tests of this file: on Lambda there is no hub at a loopback address.
  const forTests = environment.VESTIBULE_TEST_LOOPBACK === "1" && loopback && url.protocol === "http:";
  if (url.protocol !== "https:" && !forTests) {
    throw new Error("VESTIBULE_URL must begin with https://: tokens travel on this way");
  }
  if (url.username || url.password || url.search || url.hash) {
    throw new Error("VESTIBULE_URL must be an address alone, without a user, ? and #");
  }
  return new URL(`${url.pathname.replace(/\/+$/, "")}/alexa/v3/directives`, url.origin);
}

/** The bearer token, wherever this kind of directive has it. */
function token(directive) {
  const { endpoint, payload } = directive ?? {};
  return endpoint?.scope?.token ?? payload?.scope?.token ?? payload?.grantee?.token;
}

/** A well-formed answer when the hub gave none. */
function unreachable(directive) {
  const header = directive?.header ?? {};
  if (header.namespace === "Alexa.Discovery") {
    // An empty list would say that the home has no devices, which is not known. Without an answer Alexa keeps those it has.
    throw new Error("the hub did not answer");
  }
  const authorization = header.namespace === "Alexa.Authorization";
  const answer = {
    namespace: authorization ? "Alexa.Authorization" : "Alexa",
    name: "ErrorResponse",
    payloadVersion: "3",
    messageId: crypto.randomUUID(),
  };
  if (header.correlationToken) {
    answer.correlationToken = header.correlationToken;
  }
  const event = {
    header: answer,
    payload: authorization
      ? { type: "ACCEPT_GRANT_FAILED", message: "The hub did not answer." }
      : { type: "BRIDGE_UNREACHABLE", message: "The hub did not answer." },
  };
  if (directive?.endpoint?.endpointId) {
    event.endpoint = { endpointId: directive.endpoint.endpointId };
  }
  return { event };
}

/** Reads an answer up to the limit. */
async function read(response) {
  const parts = [];
  let bytes = 0;
  for await (const part of response.body ?? []) {
    bytes += part.length;
    if (bytes > ANSWER_MAX_BYTES) {
      throw new Error("the answer is too large");
    }
    parts.push(part);
  }
  return JSON.parse(Buffer.concat(parts).toString("utf8"));
}

export async function handler(request) {
  const url = target(process.env);
  const headers = { "content-type": "application/json" };
  const bearer = token(request?.directive);
  if (typeof bearer === "string" && /^[\x21-\x7e]+$/.test(bearer)) {
    headers.authorization = `Bearer ${bearer}`;
  }
  try {
    const response = await fetch(url, {
      method: "POST",
      headers,
      body: JSON.stringify(request),
      // Somebody else's answer to a redirect is not the hub's, and the token must not go there.
      redirect: "error",
      signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
    });
    const answer = await read(response);
    if (answer?.event?.header) {
      return answer;
    }
    console.error(`the hub answered with HTTP ${response.status} and no event`);
  } catch (error) {
    // The kind of error only: a message may hold an address or a token.
    console.error(`the hub did not answer: ${error?.name ?? "error"}`);
  }
  return unreachable(request?.directive);
}
