import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URLDecoder;
import java.net.UnknownHostException;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.Executors;

/** rates: what a euro is worth elsewhere. The end of the chain. */
public final class Main {
    private static final Map<String, Double> RATES =
            Map.of("EUR", 1.0, "NOK", 11.6, "KES", 150.2, "JPY", 171.4, "USD", 1.16);

    public static void main(String[] args) throws IOException {
        String given = System.getenv("PORT");
        int port = given == null || given.isEmpty() ? 8080 : Integer.parseInt(given);
        HttpServer server = HttpServer.create(new InetSocketAddress("0.0.0.0", port), 128);
        server.createContext("/healthz", exchange -> reply(exchange, 200, "{\"ok\":true}"));
        server.createContext("/rate", Main::rate);
        var workers = Executors.newFixedThreadPool(4);
        server.setExecutor(workers);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            server.stop(1);
            workers.shutdown();
        }));
        server.start();
        System.out.println("rates listens on " + port);
    }

    private static void rate(HttpExchange exchange) throws IOException {
        String currency = parameter(exchange.getRequestURI().getRawQuery(), "currency");
        Double rate = RATES.get(currency);
        System.out.println("rate of " + printable(currency) + ": " + rate);
        if (rate == null) {
            reply(exchange, 400, "{\"error\":\"no rate for " + printable(currency) + "\"}");
            return;
        }
        String me = "{\"service\":\"rates\",\"runtime\":\"java " + System.getProperty("java.version")
                + "\",\"host\":\"" + printable(host()) + "\"}";
        reply(exchange, 200, "{\"rate\":" + rate + ",\"trace\":[" + me + "]}");
    }

    private static String parameter(String query, String name) {
        if (query != null) {
            for (String pair : query.split("&")) {
                if (pair.startsWith(name + "=")) {
                    String raw = pair.substring(name.length() + 1);
                    try {
                        return URLDecoder.decode(raw, StandardCharsets.UTF_8);
                    } catch (IllegalArgumentException notEncoded) {
                        return "";
                    }
                }
            }
        }
        return "";
    }

    /** Safe inside a JSON string and a log line. */
    private static String printable(String text) {
        String safe = text.replaceAll("[^A-Za-z0-9._ -]", "?");
        return safe.substring(0, Math.min(safe.length(), 60));
    }

    private static String host() {
        try {
            return InetAddress.getLocalHost().getHostName();
        } catch (UnknownHostException nameless) {
            return "";
        }
    }

    private static void reply(HttpExchange exchange, int status, String json) throws IOException {
        byte[] body = (json + "\n").getBytes(StandardCharsets.UTF_8);
        try (exchange) {
            exchange.getResponseHeaders().set("Content-Type", "application/json");
            exchange.sendResponseHeaders(status, body.length);
            exchange.getResponseBody().write(body);
        }
    }
}
