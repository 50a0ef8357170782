"""A partner that uses the Python package authlib. Speaks with its test in lines: see foreign.rs."""

import json
import os
import sys

os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # the hub under test is at a loopback address

import requests
from authlib.common.security import generate_token
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata, get_well_known_url

issuer, client_id, secret, redirect_uri = sys.argv[1:]


def say(word, value):
    print(word, json.dumps(value), flush=True)


server = requests.get(get_well_known_url(issuer, external=True), timeout=30).json()
AuthorizationServerMetadata(server).validate_response_types_supported()
# By HTTP Basic, authlib's default.
session = OAuth2Session(
    client_id, secret, redirect_uri=redirect_uri, scope="smart_home", code_challenge_method="S256"
)
verifier = generate_token(48)
url, state = session.create_authorization_url(server["authorization_endpoint"], code_verifier=verifier)
say("authorize", url)

back = sys.stdin.readline().strip()


def exchange():
    return session.fetch_token(
        server["token_endpoint"], authorization_response=back, state=state, code_verifier=verifier
    )


say("tokens", exchange())


def refused(work):
    try:
        work()
        return "not refused"
    except OAuthError as error:
        return error.error


for line in sys.stdin:
    word, _, token = line.strip().partition(" ")
    if word == "refresh":
        say("tokens", session.refresh_token(server["token_endpoint"], refresh_token=token))
    elif word == "stolen":
        say("refused", refused(lambda: session.refresh_token(server["token_endpoint"], refresh_token=token)))
    elif word == "revoke":
        answer = session.revoke_token(server["revocation_endpoint"], token=token)
        say("revoked", None if answer.status_code == 200 else answer.status_code)
    elif word == "reuse":
        say("refused", refused(exchange))
    else:
        break
