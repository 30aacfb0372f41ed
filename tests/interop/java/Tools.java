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
import java.util.ArrayList;
import java.util.List;
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

    /** What a tool leaves to be done when its JVM ends. */
    private static final List<Runnable> HOOKS = new ArrayList<>();

    /** What the tool had said when it first called exit(): some catch what that throws, and say more. */
    private static Map<String, Object> exited;

    /** What a tool's call of exit() becomes. */
    private static final class Exited extends RuntimeException {
        Exited() {
            super(null, null, false, false);
        }
    }

    /** A console producer, for one, sends what it holds only then. */
    private static void runHooks() {
        List<Runnable> due = List.copyOf(HOOKS);
        HOOKS.clear();
        due.forEach(Runnable::run);
    }

    private static Map<String, Object> answer(int status) {
        System.out.flush();
        System.err.flush();
        return Map.of("exit", status, "out", OUT.toString(StandardCharsets.UTF_8),
            "err", ERR.toString(StandardCharsets.UTF_8));
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
            if (exited == null) {
                runHooks();
                exited = answer(status);
            }
            throw new Exited();
        };
        Exit.setExitProcedure(exit);
        Exit.setHaltProcedure(exit);
        Exit.setShutdownHookAdder((name, hook) -> HOOKS.add(hook));
        ObjectMapper json = new ObjectMapper();
        for (String line = asked.readLine(); line != null; line = asked.readLine()) {
            JsonNode step = json.readTree(line);
            String[] words = json.convertValue(step.get("arguments"), String[].class);
            System.setIn(new ByteArrayInputStream(step.get("stdin").asText().getBytes(StandardCharsets.UTF_8)));
            OUT.reset();
            ERR.reset();
            HOOKS.clear();
            exited = null;
            int status = run(step.get("class").asText(), words);
            if (exited == null) {
                runHooks();
            }
            answers.println(json.writeValueAsString(exited == null ? answer(status) : exited));
        }
    }

    private static int run(String tool, String[] words) throws ReflectiveOperationException {
        try {
            Class.forName(tool).getMethod("main", String[].class).invoke(null, (Object) words);
            return 0;
        } catch (InvocationTargetException thrown) {
            System.err.println(thrown.getCause());
            return 1;
        }
    }
}
