import java.util.ArrayList;
import java.util.List;
import org.apache.beam.fn.harness.ExternalWorkerService;
import org.apache.beam.sdk.Pipeline;
import org.apache.beam.sdk.PipelineResult;
import org.apache.beam.sdk.extensions.python.PythonExternalTransform;
import org.apache.beam.sdk.io.TextIO;
import org.apache.beam.sdk.options.Description;
import org.apache.beam.sdk.options.PipelineOptionsFactory;
import org.apache.beam.sdk.options.PortablePipelineOptions;
import org.apache.beam.sdk.options.Validation.Required;
import org.apache.beam.sdk.schemas.Schema;
import org.apache.beam.sdk.transforms.Create;
import org.apache.beam.sdk.transforms.ToJson;
import org.apache.beam.sdk.values.PCollection;
import org.apache.beam.sdk.values.PCollectionTuple;
import org.apache.beam.sdk.values.Row;
import org.joda.time.Instant;

/** Predicts rows of readings with the transform RnnPredict of beam_rnn. */
public class Predict {

  /** The options of this program, in addition to Beam's own. */
  public interface Options extends PortablePipelineOptions {
    @Description("The expansion service in Python, host:port")
    @Required
    String getExpansionService();

    void setExpansionService(String address);

    @Description("The weights file; the expansion service and the workers must see it")
    @Required
    String getWeights();

    void setWeights(String path);

    @Description("The prefix of the files of predictions and of refused readings")
    @Required
    String getOutput();

    void setOutput(String prefix);
  }

  /** Inputs may be of any numeric type; a record with a null is refused. */
  static final Schema READING =
      Schema.builder()
          .addStringField("id")
          .addDateTimeField("at")
          .addNullableField("pressure", Schema.FieldType.DOUBLE)
          .addInt32Field("rpm")
          .addInt64Field("cycles")
          .addFloatField("load")
          .build();

  static Row reading(String id, int second, Double pressure, float load) {
    return Row.withSchema(READING)
        .addValue(id)
        .addValue(Instant.ofEpochSecond(second))
        .addValue(pressure)
        .addValue(second % 7)
        .addValue(1_000_000_000L * second)
        .addValue(load)
        .build();
  }

  static List<Row> readings() {
    List<Row> rows = new ArrayList<>();
    for (int i = 0; i < 40; i++) {
      rows.add(reading(i % 2 == 0 ? "pump" : "fan", 1000 + i / 2, Math.sin(i), i / 3f));
    }
    rows.add(reading("fan", 1020, null, 0f));
    return rows;
  }

  public static void main(String[] args) throws Exception {
    Options options = PipelineOptionsFactory.fromArgs(args).withValidation().as(Options.class);
    // This program runs the Java worker itself: Beam's LOOPBACK does not work together with Python.
    ExternalWorkerService worker = new ExternalWorkerService(options);
    options.setDefaultEnvironmentType("EXTERNAL");
    options.setDefaultEnvironmentConfig(worker.start().getApiServiceDescriptor().getUrl());

    Pipeline pipeline = Pipeline.create(options);
    PCollection<Row> readings = pipeline.apply(Create.of(readings()).withRowSchema(READING));
    // A mapping in Python is a row in Java.
    Schema handling = Schema.builder().addStringField("output").build();
    PCollectionTuple outputs =
        PCollectionTuple.of("input", readings)
            .apply(
                PythonExternalTransform.<PCollectionTuple, PCollectionTuple>from(
                        "beam_rnn.portable.RnnPredict", options.getExpansionService())
                    .withKwarg("weights", options.getWeights())
                    .withKwarg(
                        "error_handling",
                        Row.withSchema(handling).addValue("refused").build()));
    write(outputs.get("good"), options.getOutput() + "-predictions");
    write(outputs.get("refused"), options.getOutput() + "-refused");
    PipelineResult.State state = pipeline.run().waitUntilFinish();
    System.exit(state == PipelineResult.State.DONE ? 0 : 1); // the worker would keep running
  }

  /** Writes rows as lines of JSON. */
  @SuppressWarnings("unchecked")
  static void write(PCollection<?> rows, String prefix) {
    ((PCollection<Row>) rows)
        .apply("ToJson " + prefix, ToJson.of())
        .apply("Write " + prefix, TextIO.write().to(prefix).withSuffix(".jsonl").withoutSharding());
  }
}
