import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs Kafka's own command-line tools one after the other in one JVM: their main() with their arguments, as
 * the scripts in bin/ would, without a JVM's start for each. A line of JSON asks, a line of JSON answers:
 * {"class":..,"arguments":[..],"stdin":..} and {"exit":..,"out":..,"err":..}.
 */
public final class Tools {
    private static final ByteArrayOutputStream OUT = new ByteArrayOutputStream();
    private static final ByteArrayOutputStream ERR = new ByteArrayOutputStream();

    /** What a tool's call of exit() becomes. */
    private static final class Exited extends RuntimeException {
        final int status;

        Exited(int status) {
            super(null, null, false, false);
            this.status = status;
        }
    }

    /** Scala's println keeps the first System.out it saw, so that one must lead to us for good. */
    private static PrintStream captured(OutputStream into) {
        return new PrintStream(into, true, StandardCharsets.UTF_8);
    }

    public static void main(String[] arguments) throws Exception {
        PrintStream answers = captured(new FileOutputStream(FileDescriptor.out));
        BufferedReader asked = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        System.setOut(captured(OUT));
        System.setErr(captured(ERR));
        Exit.Procedure exit = (status, message) -> {
            if (message != null) {
                System.err.println(message);
            }
            throw new Exited(status);
        };
        Exit.setExitProcedure(exit);
        Exit.setHaltProcedure(exit);
        Exit.setShutdownHookAdder((name, hook) -> { });
        ObjectMapper json = new ObjectMapper();
        for (String line = asked.readLine(); line != null; line = asked.readLine()) {
            JsonNode step = json.readTree(line);
            String[] words = json.convertValue(step.get("arguments"), String[].class);
            System.setIn(new ByteArrayInputStream(step.get("stdin").asText().getBytes(StandardCharsets.UTF_8)));
            OUT.reset();
            ERR.reset();
            int status = run(step.get("class").asText(), words);
            System.out.flush();
            Map<String, Object> answer = Map.of("exit", status, "out", OUT.toString(StandardCharsets.UTF_8),
                "err", ERR.toString(StandardCharsets.UTF_8));
            answers.println(json.writeValueAsString(answer));
        }
    }

    private static int run(String tool, String[] words) throws ReflectiveOperationException {
        try {
            Class.forName(tool).getMethod("main", String[].class).invoke(null, (Object) words);
            return 0;
        } catch (InvocationTargetException thrown) {
            for (Throwable cause = thrown; cause != null; cause = cause.getCause()) {
                if (cause instanceof Exited) {
                    return ((Exited) cause).status;
                }
            }
            System.err.println(thrown.getCause());
            return 1;
        }
    }
}
