import com.nimbusds.jose.JOSEObjectType;
import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.jwk.source.JWKSourceBuilder;
import com.nimbusds.jose.proc.DefaultJOSEObjectTypeVerifier;
import com.nimbusds.jose.proc.JWSVerificationKeySelector;
import com.nimbusds.jose.proc.SecurityContext;
import com.nimbusds.jwt.JWTClaimsSet;
import com.nimbusds.jwt.proc.DefaultJWTClaimsVerifier;
import com.nimbusds.jwt.proc.DefaultJWTProcessor;
import com.nimbusds.oauth2.sdk.Scope;
import com.nimbusds.oauth2.sdk.TokenRequest;
import com.nimbusds.oauth2.sdk.TokenResponse;
import com.nimbusds.oauth2.sdk.as.AuthorizationServerMetadata;
import com.nimbusds.oauth2.sdk.auth.ClientSecretBasic;
import com.nimbusds.oauth2.sdk.auth.Secret;
import com.nimbusds.oauth2.sdk.id.Audience;
import com.nimbusds.oauth2.sdk.id.ClientID;
import com.nimbusds.oauth2.sdk.id.Issuer;
import com.nimbusds.oauth2.sdk.token.BearerAccessToken;
import com.nimbusds.oauth2.sdk.token.TokenTypeURI;
import com.nimbusds.oauth2.sdk.tokenexchange.TokenExchangeGrant;
import com.nimbusds.oauth2.sdk.util.JSONObjectUtils;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import net.minidev.json.JSONObject;

/** The main job by the Nimbus SDK: {@code java -cp 'lib/*' Exchange.java WORLD}. */
public class Exchange {
    private final JSONObject world;
    private final String issuer;
    private final AuthorizationServerMetadata metadata;
    private boolean failed;

    private interface Test {
        void run() throws Exception;
    }

    private Exchange(Path file) throws Exception {
        world = JSONObjectUtils.parse(Files.readString(file));
        issuer = JSONObjectUtils.getString(world, "issuer");
        metadata = AuthorizationServerMetadata.resolve(new Issuer(issuer));
    }

    public static void main(String[] arguments) throws Exception {
        Exchange suite = new Exchange(Path.of(arguments[0]));
        suite.check("a session token becomes a task token and then a narrower one", suite::narrowing);
        suite.check("asking for more than the parent holds is invalid_scope", suite::tooMuch);
        System.exit(suite.failed ? 1 : 0);
    }

    private void narrowing() throws Exception {
        String orders = at("resources", "orders", "uri");
        String whole = issued(exchange(session(), List.of(new Audience(issuer)), null, "orders:read refunds:write"));
        claims(whole, issuer, "refunds:write");
        String narrow = issued(exchange(whole, null, orders, "orders:read"));
        require(claims(narrow, orders, "orders:read").getStringClaim("task_id")
            .equals(claims(whole, issuer, "orders:read").getStringClaim("task_id")), "another task");
        try {
            claims(whole, orders, "orders:read");
        } catch (Exception refused) {
            return;
        }
        throw new IllegalStateException("an exchange-only token was accepted by a service");
    }

    private void tooMuch() throws Exception {
        String orders = at("resources", "orders", "uri");
        String narrow = issued(exchange(session(), null, orders, "orders:read"));
        TokenResponse answer = exchange(narrow, null, orders, "refunds:write");
        require(!answer.indicatesSuccess(), "issued");
        require("invalid_scope".equals(answer.toErrorResponse().getErrorObject().getCode()), "another error code");
    }

    private TokenResponse exchange(String subject, List<Audience> audience, String resource, String scope)
            throws Exception {
        var grant = new TokenExchangeGrant(
            new BearerAccessToken(subject), TokenTypeURI.ACCESS_TOKEN, null, null, null, audience);
        var client = new ClientSecretBasic(
            new ClientID(at("agents", "planner", "client_id")), new Secret(at("agents", "planner", "secret")));
        var request = new TokenRequest.Builder(metadata.getTokenEndpointURI(), client, grant).scope(Scope.parse(scope));
        if (resource != null) {
            request.resource(URI.create(resource));
        }
        return TokenResponse.parse(request.build().toHTTPRequest().send());
    }

    private static String issued(TokenResponse answer) {
        if (!answer.indicatesSuccess()) {
            throw new IllegalStateException("refused: " + answer.toErrorResponse().toJSONObject());
        }
        var tokens = answer.toSuccessResponse().getTokens();
        require(tokens.getRefreshToken() == null, "a refresh token");
        require(TokenTypeURI.ACCESS_TOKEN.equals(tokens.getAccessToken().getIssuedTokenType()), "issued_token_type");
        return tokens.getAccessToken().getValue();
    }

    /** The claims as a service would check them; only the outermost actor counts. */
    private JWTClaimsSet claims(String token, String audience, String scope) throws Exception {
        var keys = JWKSourceBuilder.create(metadata.getJWKSetURI().toURL()).build();
        var processor = new DefaultJWTProcessor<SecurityContext>();
        processor.setJWSTypeVerifier(new DefaultJOSEObjectTypeVerifier<>(new JOSEObjectType("at+jwt")));
        processor.setJWSKeySelector(new JWSVerificationKeySelector<>(JWSAlgorithm.ES256, keys));
        processor.setJWTClaimsSetVerifier(new DefaultJWTClaimsVerifier<>(
            audience, new JWTClaimsSet.Builder().issuer(issuer).claim("tenant", "acme").build(),
            Set.of("exp", "iat", "sub", "client_id", "act")));
        JWTClaimsSet claims = processor.process(token, null);
        require(Arrays.asList(claims.getStringClaim("scope").split(" ")).contains(scope), "not this scope");
        require("refund-planner".equals(claims.getJSONObjectClaim("act").get("sub")), "not this actor");
        return claims;
    }

    private String session() throws Exception {
        return at("sessions", "alice", "access_token");
    }

    @SuppressWarnings("unchecked")
    private String at(String group, String name, String member) {
        return ((Map<String, Map<String, String>>) world.get(group)).get(name).get(member);
    }

    private static void require(boolean holds, String otherwise) {
        if (!holds) {
            throw new IllegalStateException(otherwise);
        }
    }

    private void check(String name, Test test) {
        try {
            test.run();
            System.out.println("ok - Nimbus: " + name);
        } catch (Exception fault) {
            failed = true;
            System.out.println("not ok - Nimbus: " + name + "\n# " + fault);
        }
    }
}
