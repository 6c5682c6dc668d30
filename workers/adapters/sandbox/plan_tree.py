"""Spark's plan as plain data: one call into the JVM returns every node, argument and literal class of it.

Walking a plan over py4j costs a thousand round trips, so the walker is Java, compiled by the compiler that Spark brings
for its own generated code; it decides nothing. It follows *every* constructor argument, so a node cannot hide in an argument that
nobody thought of: what it does not know it reports by class, and the guard refuses unknown classes.
"""

from __future__ import annotations

import json
from typing import Any

_CLASS = "tailrace.PlanTree"

_SOURCE = r"""
package tailrace;

import java.util.IdentityHashMap;
import org.apache.hadoop.fs.Path;
import org.apache.spark.sql.catalyst.expressions.Expression;
import org.apache.spark.sql.catalyst.plans.logical.LogicalPlan;
import org.apache.spark.sql.catalyst.trees.TreeNode;
import org.apache.spark.sql.execution.datasources.HadoopFsRelation;
import org.apache.spark.sql.execution.datasources.LogicalRelation;
import org.apache.spark.sql.delta.Snapshot;
import org.apache.spark.sql.delta.actions.Action;
import org.apache.spark.sql.delta.catalog.DeltaTableV2;
import org.apache.spark.sql.delta.files.TahoeLogFileIndex;
import scala.runtime.AbstractPartialFunction;

public final class PlanTree {
    private final StringBuilder out = new StringBuilder();
    private final IdentityHashMap seen = new IdentityHashMap();

    public static String of(Object plan) {
        PlanTree tree = new PlanTree();
        tree.write(plan);
        return tree.out.toString();
    }

    /** Actions of a Delta log as they stand in it, one a line. */
    public static String actions(Object actions) {
        StringBuilder lines = new StringBuilder();
        java.util.Iterator each = ((java.util.List) actions).iterator();
        while (each.hasNext()) {
            lines.append(((Action) each.next()).json()).append("\n");
        }
        return lines.toString();
    }

    /** The same plan, with every Delta table fixed at the version that was analysed. */
    public static Object pin(Object plan) {
        return ((LogicalPlan) plan).transformUpWithSubqueries(new AbstractPartialFunction() {
            public boolean isDefinedAt(Object node) {
                return node instanceof LogicalRelation;
            }
            public Object applyOrElse(Object node, scala.Function1 otherwise) {
                return node instanceof LogicalRelation ? pinned((LogicalRelation) node) : otherwise.apply(node);
            }
        });
    }

    private static LogicalRelation pinned(LogicalRelation relation) {
        HadoopFsRelation files = (HadoopFsRelation) relation.relation();
        TahoeLogFileIndex index = (TahoeLogFileIndex) files.location();
        Snapshot analysed = index.deltaLog().getSnapshotAt(
            index.version(), scala.Option.empty(), index.catalogTableOpt(), false);
        TahoeLogFileIndex fixed = index.copy(index.spark(), index.deltaLog(), index.path(), analysed,
            index.catalogTableOpt(), index.partitionFilters(), true);
        HadoopFsRelation source = files.copy(fixed, files.partitionSchema(), files.dataSchema(), files.bucketSpec(),
            files.fileFormat(), files.options(), files.sparkSession());
        return relation.copy(source, relation.output(), relation.catalogTable(), relation.isStreaming(), relation.stream());
    }

    private void write(Object value) {
        if (value == null) {
            out.append("null");
        } else if (value instanceof String) {
            text((String) value);
        } else if (value instanceof Boolean || value instanceof Integer || value instanceof Long) {
            out.append(value.toString());
        } else if (value instanceof LogicalRelation) {
            relation((LogicalRelation) value);
        } else if (value instanceof DeltaTableV2) {
            out.append("{\"table\":");
            text(value.getClass().getName());
            out.append(",\"path\":");
            text(Path.getPathWithoutSchemeAndAuthority(((DeltaTableV2) value).path()).toString().replaceAll("/+$", ""));
            out.append("}");
        } else if (value instanceof TreeNode) {
            node((TreeNode) value);
        } else if (value instanceof org.apache.spark.sql.types.DataType) {
            leaf("type", value);
        } else if (value instanceof scala.Option) {
            write(((scala.Option) value).isEmpty() ? null : ((scala.Option) value).get());
        } else if (value instanceof scala.collection.Iterable) {
            items(((scala.collection.Iterable) value).iterator());
        } else if (value instanceof java.util.Map) {
            items(scala.jdk.javaapi.CollectionConverters.asScala(((java.util.Map) value).keySet().iterator()));
        } else if (value instanceof scala.Product) {
            product("value", value, (scala.Product) value);
            out.append("}");
        } else {
            leaf("leaf", value);
        }
    }

    private void node(TreeNode node) {
        if (seen.put(node, node) != null) {
            leaf("again", node);
            return;
        }
        String kind = node instanceof LogicalPlan ? "plan" : node instanceof Expression ? "expression" : "node";
        if (node instanceof scala.Product) {
            product(kind, node, (scala.Product) node);
        } else {
            out.append("{\"").append(kind).append("\":");
            text(node.getClass().getName());
            out.append(",\"args\":[]");
        }
        out.append(",\"also\":[");
        boolean first = true;
        scala.collection.Iterator[] more = {node.children().iterator(), node.innerChildren().iterator()};
        for (int i = 0; i < more.length; i++) {
            while (more[i].hasNext()) {
                Object child = more[i].next();
                if (!seen.containsKey(child)) {
                    if (!first) out.append(",");
                    first = false;
                    write(child);
                }
            }
        }
        out.append("]}");
    }

    private void product(String kind, Object value, scala.Product product) {
        out.append("{\"").append(kind).append("\":");
        text(value.getClass().getName());
        out.append(",\"args\":");
        items(product.productIterator());
    }

    private void items(scala.collection.Iterator iterator) {
        out.append("[");
        boolean first = true;
        while (iterator.hasNext()) {
            if (!first) out.append(",");
            first = false;
            write(iterator.next());
        }
        out.append("]");
    }

    private void leaf(String kind, Object value) {
        out.append("{\"").append(kind).append("\":");
        text(value.getClass().getName());
        out.append("}");
    }

    private void relation(LogicalRelation relation) {
        out.append("{\"relation\":");
        Object source = relation.relation();
        text(source.getClass().getName());
        if (source instanceof HadoopFsRelation) {
            Object location = ((HadoopFsRelation) source).location();
            out.append(",\"index\":");
            text(location.getClass().getName());
            if (location instanceof TahoeLogFileIndex) {
                TahoeLogFileIndex index = (TahoeLogFileIndex) location;
                out.append(",\"path\":");
                text(index.path().toUri().getPath());
                out.append(",\"scheme\":");
                text(String.valueOf(index.path().toUri().getScheme()));
                out.append(",\"version\":").append(index.version());
            }
        }
        out.append(",\"streaming\":").append(relation.isStreaming());
        out.append("}");
    }

    private void text(String value) {
        out.append('"');
        for (int i = 0; i < value.length(); i++) {
            char c = value.charAt(i);
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < 32 || c > 126) {
                String hex = Integer.toHexString(c);
                out.append("\\u").append("0000".substring(hex.length())).append(hex);
            } else {
                out.append(c);
            }
        }
        out.append('"');
    }
}
"""


class PlanReader:
    """Reads plans of one JVM; the walker is compiled once, when it is made."""

    def __init__(self, gateway: Any) -> None:
        jvm = gateway.jvm
        compiler = jvm.org.codehaus.janino.SimpleCompiler()
        compiler.setParentClassLoader(jvm.Thread.currentThread().getContextClassLoader())
        compiler.cook(_SOURCE)
        walker = compiler.getClassLoader().loadClass(_CLASS)
        signature = _array_of_one(gateway, jvm.java.lang.Class, jvm.java.lang.Class.forName("java.lang.Object"))
        self._gateway = gateway
        self._of = walker.getMethod("of", signature)
        self._pin = walker.getMethod("pin", signature)
        self._actions = walker.getMethod("actions", signature)

    def tree(self, plan: Any) -> Any:
        """The plan as nested data: dicts for nodes and values, lists for sequences, plain strings and numbers."""
        return json.loads(self._of.invoke(None, self._argument(plan)))

    def pinned(self, plan: Any) -> Any:
        """An analysed plan that reads every Delta table at the version it was analysed with, whatever lands meanwhile."""
        return self._pin.invoke(None, self._argument(plan))

    def actions(self, actions: Any) -> str:
        """A Java list of a Delta log's actions as its entries write them: one JSON document a line."""
        return str(self._actions.invoke(None, self._argument(actions)))

    def _argument(self, plan: Any) -> Any:
        return _array_of_one(self._gateway, self._gateway.jvm.java.lang.Object, plan)


def _array_of_one(gateway: Any, kind: Any, item: Any) -> Any:
    array = gateway.new_array(kind, 1)
    array[0] = item
    return array
