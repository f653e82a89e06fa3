import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.beam.fn.harness.ExternalWorkerService;
import org.apache.beam.runners.fnexecution.artifact.ArtifactRetrievalService;
import org.apache.beam.sdk.expansion.service.ExpansionService;
import org.apache.beam.sdk.expansion.service.ExpansionServiceOptions;
import org.apache.beam.sdk.options.PipelineOptions;
import org.apache.beam.sdk.options.PipelineOptionsFactory;

/**
 * Beam's expansion service, restricted to this machine and to a list of transforms.
 *
 * <p>Beam's own program listens on all interfaces and expands everything on its class path: one of
 * its transforms compiles Java source that the caller sends. Here the arguments are a port of
 * 127.0.0.1, the comma-separated URNs of the allowed transforms, and Beam's flags.
 *
 * <p>Private members of Beam, which are the same from 2.62 to 2.71, are accessed by reflection; if
 * one is missing, the program fails at the start. gRPC is also accessed by reflection, because its
 * package name contains its version.
 */
public class Expansion {
  private static final String LOOPBACK = "127.0.0.1";

  public static void main(String[] args) throws Exception {
    int port = Integer.parseInt(args[0]);
    Set<String> allowed = Set.of(args[1].split(","));
    PipelineOptionsFactory.register(ExpansionServiceOptions.class);
    PipelineOptions options =
        PipelineOptionsFactory.fromArgs(Arrays.copyOfRange(args, 2, args.length)).create();

    ExpansionService service = new ExpansionService(options, LOOPBACK + ":" + port);
    allowTransforms(service, allowed);
    allowSchemaTransforms(allowed);
    List<Object> services = new ArrayList<>(List.of(service, new ArtifactRetrievalService()));
    if (options.as(ExpansionServiceOptions.class).getAlsoStartLoopbackWorker()) {
      services.add(new ExternalWorkerService(options));
    }
    serve(port, services);
    System.out.println("listening at " + LOOPBACK + ":" + port + " for " + allowed);
    Thread.currentThread().join();
  }

  private static void allowTransforms(ExpansionService service, Set<String> allowed)
      throws ReflectiveOperationException {
    Method load = ExpansionService.class.getDeclaredMethod("getRegisteredTransforms");
    load.setAccessible(true);
    Map<?, ?> found = new HashMap<>((Map<?, ?>) load.invoke(service));
    found.keySet().retainAll(allowed);
    Field field = ExpansionService.class.getDeclaredField("registeredTransforms");
    field.setAccessible(true);
    field.set(service, found);
  }

  private static void allowSchemaTransforms(Set<String> allowed)
      throws ReflectiveOperationException {
    String name = ExpansionService.class.getPackageName();
    Class<?> type = Class.forName(name + ".ExpansionServiceSchemaTransformProvider");
    Method of = type.getDeclaredMethod("of");
    of.setAccessible(true);
    Field field = type.getDeclaredField("schemaTransformProviders");
    field.setAccessible(true);
    ((Map<?, ?>) field.get(of.invoke(null))).keySet().retainAll(allowed);
  }

  private static void serve(int port, List<Object> services) throws ReflectiveOperationException {
    Class<?> definition = ExternalWorkerService.class.getMethod("bindService").getReturnType();
    Class<?> type = Class.forName(definition.getPackageName() + ".netty.NettyServerBuilder");
    Object builder =
        type.getMethod("forAddress", SocketAddress.class)
            .invoke(null, new InetSocketAddress(LOOPBACK, port));
    for (Object service : services) {
      Object bound = service.getClass().getMethod("bindService").invoke(service);
      type.getMethod("addService", definition).invoke(builder, bound);
    }
    Object server = type.getMethod("build").invoke(builder);
    Class<?> serverType = Class.forName(definition.getPackageName() + ".Server");
    serverType.getMethod("start").invoke(server);
  }
}
